"""Configuration of one training. It looks like Python, but it is data: read, never executed.

Numbers, strings, True, False, None, [...], {...} and the classes named here; no calls, no arithmetic.
"""

import torch.nn as nn
import torch.optim as optim

model = {
    # Informer (Zhou et al. 2021, arXiv:2012.07436): sparse attention, distilling, one-shot decoder.
    "family": "informer",
    # Per window: subtract the last value, the mean, the season before; or RevIN (mean, scale, affine).
    # One of: none, last, mean, revin, seasonal.
    "normalization": "last",
    # Split off the moving average: a linear map of its own forecasts it, the model the rest.
    "decomposition": False,
    # Add a linear map from the normalised targets' look-back straight to the forecast.
    "linear_path": True,
    # Where that map starts: the window's mean, or its ridge regression, to which the network then adds.
    # One of: mean, ridge.
    "linear_start": "mean",
    "d_model": 32,            # Width of every layer; must be divisible by n_heads.
    "n_heads": 4,             # Attention heads; must divide d_model.
    "e_layers": 2,            # How many layers the encoder has.
    "d_layers": 1,            # How many layers the decoder has.
    "d_ff": 64,               # Width inside the feed-forward blocks.
    "dropout": 0.05,          # Share of activations dropped while training.
    # ProbSparse attention of the paper, or full attention (encoder and decoder self-attention).
    # One of: prob, full.
    "attention": "prob",
    "factor": 5,              # ProbSparse: how many keys are sampled and queries kept, times ln(length).
    "distil": True,           # Halve the sequence between encoder layers by convolution and max pooling.
    # Mix heads and time in the decoder's self-attention output, as the reference does.
    "mix": True,
    # Time embedding: continuous features, fixed sinusoids or learned tables of calendar numbers.
    # One of: timeF, fixed, learned.
    "embed": "timeF",
    "activation": "gelu",     # Activation of the feed-forward blocks. One of: gelu, relu.
    "label_len": 48,          # How many known steps start the decoder's input; at most seq_len.
}

training = {
    # Which optimizer updates the weights.
    # One of: optim.Adam, optim.AdamW, optim.SGD.
    "optimizer_class": optim.Adam,
    "optimizer_params": {
        "lr": 0.0005,               # Learning rate at the start.
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
    "max_steps": 801,
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
    "features": "MS",  # Inputs: the targets alone (S) or all columns (MS). One of: S, MS.
    "seq_len": 96,     # Look-back: how many past steps the model sees.
    "batch_size": 32,  # Windows, or graphs, per optimizer step.
}

task = {
    "name": "forecasting",  # Forecast a time series.
    # `etth1`, `synthetic`, or the path of a CSV file whose first column is the time stamp.
    "dataset": "etth1",
    "targets": ["OT"],      # Columns to forecast; `all` alone means every column.
    "pred_len": 24,         # Horizon: how many steps ahead are forecast.
    # Empty cells and missing rows: refuse the file, carry the last value forward, or draw a line across.
    "missing": "refuse",
    # Scale by mean and standard deviation of the training rows, or by median and IQR / 1.349.
    "scaling": "standard",
}

seed = 42
