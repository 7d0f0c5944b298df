"""Baselines: taking, saving, loading and finding them.

- `baseline` has the class `Baseline`, and the counting of a model's predictions;
- `files` reads and writes the JSON beside a model;
- `finding` finds the baselines of a model without a word from the user;
- `fingerprint` tells a model's weights from others.
"""
