"""What a search hands over: ensembles of runs and baselines, their forecasts, scores and intervals."""
