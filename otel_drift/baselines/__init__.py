"""Baselines: taking, saving, loading and finding them.

- `baseline` has the class `Baseline`, and the counting of a model's predictions;
- `document` has the fields of the file, `files` where it lies and how it is read and written;
- `log` reads a log of predictions, and `report` says what calibration on it means;
- `discovery` finds the baselines of a model without a word from the user;
- `fingerprint` tells a model's weights from others.
"""
