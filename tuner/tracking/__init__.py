"""Shows the ledger to people, in MLflow. It decides nothing, and the training never waits for it."""
