"""Part 2: a convolutional network on CIFAR-10."""
