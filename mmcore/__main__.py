"""``mmcore`` and ``python -m mmcore``."""

import sys


def main() -> None:
    """Run the command line; exit status 0 done, 1 the work failed, 2 the request was wrong."""
    if sys.argv[1:3] == ["plugins", "list"] and set(sys.argv[3:]) <= {"--json"}:
        # Importing the parser takes longer than reading the metadata of 50 plugins.
        from mmcore.cli.ending import ending

        with ending():
            from mmcore.plugins import discover
            from mmcore.plugins.show import show_list

            show_list(discover(strict=False), as_json=len(sys.argv) > 3)
    else:
        from mmcore.cli.program import main

        main()


if __name__ == "__main__":
    main()
