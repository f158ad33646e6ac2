"""Files to arrays: whatever can be said of media without asking who will encode them."""
