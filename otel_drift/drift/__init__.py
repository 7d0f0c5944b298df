"""The statistics: whether the distribution of what a model predicts has moved.

NumPy and SciPy only; nothing here knows OpenTelemetry, Keras or a file. From the bottom up:

- `reference`: the class shares to compare with, and the band around them that counts as not moved;
- `chi_square` and `window`: the test of windows that follow each other;
- `design_effect`: how much predictions depend on each other, as the stream goes;
- `projection`, `bets`, `learnt`, `brought`, `recursion`, `walks` and `sequential`: the detector
  with its bound on false alarms;
- `variation` and `calibration`: how a stream varies while nothing is wrong, learnt from a log;
- `monitor`: all of it for the stream of labels of one model output.
"""
