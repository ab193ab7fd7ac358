"""Raw images -> tasks: the recipes of streams, the writer, the reader."""
