"""`python run.py ...` is `profi run ...`."""

from profi.cli.run import main

if __name__ == "__main__":
    main()
