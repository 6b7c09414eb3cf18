"""The zoo: random regression tasks, small networks trained on them, and the files that hold both."""
