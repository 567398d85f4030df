"""S3-compatible object stores."""
