"""Running a learner over a stream: batches, evaluation, results."""
