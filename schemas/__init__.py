"""What goes over the wire: message types in and out, topics, partitioning and their published schemas."""
