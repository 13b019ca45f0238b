"""The image-classification task: data, networks, views, evaluation."""
