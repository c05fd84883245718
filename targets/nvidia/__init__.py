"""What the target tensorrt is made of: CUDA's driver, building engines, keeping them, running them."""
