"""The kinds of task: what each measures, its data, its models and its pictures."""
