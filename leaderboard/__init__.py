"""What ranks: from rows on, nobody touches a model (verification apart)."""
