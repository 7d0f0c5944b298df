"""From what a model returns to class labels.

- `structure` names the arrays of a nested output;
- `arrays` reads a tensor of any backend without waiting for a device;
- `decision` turns scores into labels: a class for each way of deciding;
- `reader` settles once how each output is to be read, and reads it from then on.

NumPy only. Tensors of torch, TensorFlow and JAX are recognised by their type, and none of these
packages is imported.
"""
