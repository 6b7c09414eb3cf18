"""Configuration of one training. It looks like Python, but it is data: read, never executed.

Numbers, strings, True, False, None, [...], {...} and the classes named here; no calls, no arithmetic.
"""

import torch.nn as nn
import torch.optim as optim

model = {
    # One linear map from look-back to horizon (Zeng et al. 2023, arXiv:2205.13504): NLinear, DLinear.
    "family": "linear",
    # Per window: subtract the last value, the mean, the season before; or RevIN (mean, scale, affine).
    # One of: none, last, mean, revin, seasonal.
    "normalization": "last",
    # Split off the moving average: a linear map of its own forecasts it, the model the rest.
    "decomposition": False,
    # Where training starts: at the window's mean, or at the map's ridge regression.
    # One of: mean, ridge.
    "linear_start": "mean",
}

training = {
    # Which optimizer updates the weights.
    # One of: optim.Adam, optim.AdamW, optim.SGD.
    "optimizer_class": optim.Adam,
    "optimizer_params": {
        "lr": 0.001,                # Learning rate at the start.
        "weight_decay": 0.0,        # L2 penalty (adam, sgd) or decoupled decay (adamw).
    },
    # Training loss; the score is always the task's own metric.
    # One of: nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss.
    "criterion_class": nn.MSELoss,
    # Learning-rate schedule, advanced once an epoch (onecycle: once a step, lr is the highest rate).
    # One of: optim.lr_scheduler.CosineAnnealingLR, optim.lr_scheduler.StepLR,
    # optim.lr_scheduler.ReduceLROnPlateau, optim.lr_scheduler.OneCycleLR, None.
    "scheduler_class": optim.lr_scheduler.CosineAnnealingLR,
    "scheduler_params": {
        "T_max": None,              # Cosine: epochs until the lowest rate; None takes all of the training.
        "eta_min": 0.0,             # Cosine: the lowest rate.
    },
    # How training windows are varied; validation and test windows never are.
    # One of: none, jitter, scaling, magnitude_warp, time_warp, window_slice, channel_dropout.
    "augmentation": "none",
    # Most optimizer steps a training may take; an epoch is a pass, or what divides them into 2 to 20.
    "max_steps": None,
    "max_epochs": 2,                # Most passes over the training data, where max_steps says nothing.
    "patience": 3,                  # Epochs without a better validation score before the training ends.
    "grad_clip": 0.0,               # Largest norm of the gradient; 0 does not clip.
    "accumulation_steps": 1,        # Batches whose gradients are added up before one optimizer step.
    # Number format of the matrix products; fp16 needs a CUDA device.
    # One of: fp32, bf16, fp16.
    "precision": "fp32",
    # Run the model through torch.compile: pays only for long trainings of large models.
    "compile": False,
}

data = {
    "seq_len": 24,     # Look-back: how many past steps the model sees.
    "batch_size": 32,  # Windows, or graphs, per optimizer step.
}

task = {
    "name": "forecasting",   # Forecast a time series.
    # `etth1`, `synthetic`, or the path of a CSV file whose first column is the time stamp.
    "dataset": "synthetic",
    "targets": ["OT"],       # Columns to forecast; `all` alone means every column.
    "pred_len": 4,           # Horizon: how many steps ahead are forecast.
    # Empty cells: refuse the file, or carry the last known value forward (then scored like any other).
    "missing": "refuse",
    # Scale by mean and standard deviation of the training rows, or by median and IQR / 1.349.
    "scaling": "standard",
}

seed = 42
