# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Write the built-in mini scenes: small labelled images for trying things out."""
import argparse

from mmeffmae.datasets.mini_scenes import write_mini_scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out', default='data/mini', help='folder to make (default: data/mini)')
    out = parser.parse_args().out
    written = write_mini_scenes(out)
    print(f'{out}: {"written" if written else "complete already, left as it is"}')


if __name__ == '__main__':
    main()
