"""What a person looks at: pages, figures, plots and text."""
