"""Several trainings at once: slots and devices, and each training from its start to its end."""
