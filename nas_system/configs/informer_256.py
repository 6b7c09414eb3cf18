"""The Informer of the original system: width 256, 1024 in the feed-forward blocks, three encoder layers.

Here to be measured against, not as advice: the original has neither the normalisation nor the linear
path that the default configuration turns on.
"""

import torch.nn as nn
import torch.optim as optim

model = {
    # Informer (Zhou et al. 2021, arXiv:2012.07436): sparse attention, distilling, one-shot decoder.
    "family": "informer",
    "d_model": 256,           # Width of every layer; must be divisible by n_heads.
    "n_heads": 4,             # Attention heads; must divide d_model.
    "e_layers": 3,            # Encoder layers.
    "d_layers": 1,            # Decoder layers.
    "d_ff": 1024,             # Width inside the feed-forward blocks.
    "dropout": 0.1,           # Share of activations dropped while training.
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
    # Per window: subtract the last value or the mean, or RevIN (mean, deviation, learned affine).
    # One of: none, last, mean, revin.
    "normalization": "none",
    # Add a linear map from the normalised targets' look-back straight to the forecast.
    "linear_path": False,
}

training = {
    # Which optimizer updates the weights.
    # One of: optim.Adam, optim.AdamW, optim.SGD.
    "optimizer_class": optim.Adam,
    "optimizer_params": {
        "lr": 0.0001,               # Learning rate at the start.
        "weight_decay": 0.0001,     # L2 penalty (adam, sgd) or decoupled decay (adamw).
    },
    # Training loss; the score is always the mean squared error.
    # One of: nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss.
    "criterion_class": nn.MSELoss,
    # Learning-rate schedule, advanced once an epoch.
    # One of: optim.lr_scheduler.CosineAnnealingLR, optim.lr_scheduler.StepLR,
    # optim.lr_scheduler.ReduceLROnPlateau, None.
    "scheduler_class": optim.lr_scheduler.CosineAnnealingLR,
    "scheduler_params": {
        "T_max": 10,                # Cosine: epochs until the lowest rate; None takes max_epochs.
        "eta_min": 0.0,             # Cosine: the lowest rate.
    },
    "max_epochs": 20,               # Most epochs a training may take.
    "patience": 5,                  # Epochs without a better validation score before the training ends.
    "grad_clip": 0.0,               # Largest norm of the gradient; 0 does not clip.
}

data = {
    "features": "MS",  # Inputs: the targets alone (S) or all columns (MS). One of: S, MS.
    "seq_len": 96,     # Look-back: how many past steps the model sees.
    "batch_size": 32,  # Windows per optimizer step.
}

task = {
    "name": "forecasting",  # The kind of task.
    # `etth1`, `synthetic`, or the path of a CSV file whose first column is the time stamp.
    "dataset": "etth1",
    "targets": ["OT"],      # Columns to forecast.
    "pred_len": 24,         # Horizon: how many steps ahead are forecast.
}

seed = 42
