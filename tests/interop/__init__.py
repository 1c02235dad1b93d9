"""Other libraries beside fastrnn: each file is skipped where its library is missing."""
