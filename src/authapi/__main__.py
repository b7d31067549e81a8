"""Entry point of `python -m authapi`."""

from authapi.cli.commands import main

if __name__ == "__main__":
    main()
