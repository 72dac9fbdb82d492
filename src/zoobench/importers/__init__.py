"""Published results as run directories. They are marked as imported: nothing here was measured."""
