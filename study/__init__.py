"""Ablation and hyperparameter studies of rainfall–runoff networks."""

__version__ = "0.1.0"
