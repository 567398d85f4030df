"""A cloud in a box: Vast.ai's and Google Compute's wire protocols over real local processes."""
