"""What stands behind `BaseSequentialModel`: tables in, settings checked, a network trained by the engine."""
