"""Fast kernels of attention modules, and the choice among them. Importing it does not import torch."""
