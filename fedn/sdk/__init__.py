"""What user code imports; `fedn` itself offers these names lazily."""
