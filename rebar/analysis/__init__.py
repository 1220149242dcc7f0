"""What is computed about estimators and runs, outside training."""
