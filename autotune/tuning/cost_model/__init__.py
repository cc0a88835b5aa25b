"""What is believed before anything is measured: the static model and the prior of shipped winners."""
