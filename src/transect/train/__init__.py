"""Training: recipes, tasks and loops. Nothing is captured while training runs; checkpoints are captured
afterwards."""
