"""Networks: tensors in, tensors out. No module here knows a path's pixels, a CRS or a window."""
