"""Entry point of `python -m authapi`."""

from authapi.cli import main

if __name__ == "__main__":
    main()
