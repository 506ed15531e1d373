"""How long does a picture take in each row of Table 1?

    python -m benchmarks.row_seconds --device cuda --dtype float16 --batch 8
    python -m benchmarks.row_seconds --device cpu --repeats 1 --rows bld smartbrush

Each part of a picture (`benchmarks.rows`) is timed with random weights, after a first call; a
picture's seconds are the sum over its parts of median times how often it takes it, so computed. At
512 pixels, SDXL's rows at 1024.
"""

from __future__ import annotations

import statistics

from benchmarks.rows import ROWS, Models, usual_vae_dtype
from benchmarks.timing import machine, median_text, parser, timed
from profi.models.backbone import DTYPES


def main() -> None:
    """Measure and print the table."""
    options = parser(__doc__)
    options.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=tuple(ROWS))
    args = options.parse_args()
    dtype = DTYPES[args.dtype]
    print(
        f"{machine(args.device)}\nbatch {args.batch}, UNet {args.dtype}, "
        f"median of {args.repeats} [extremes]",
        flush=True,
    )
    for name in args.rows:
        row = ROWS[name]
        models = Models.make(row, args.device, dtype, usual_vae_dtype(row, args.device, dtype))
        total, parts = 0.0, []
        for part, (times, call) in models.parts(row, row.of.pixels, args.batch).items():
            taken = [timed(call, models.backbone.device) for _ in range(args.repeats + 1)][1:]
            total += times * statistics.median(taken)
            parts.append(f"{part} {median_text(taken)}")
        print(
            f"  {name:16s} {total / args.batch:8.2f} s a picture   {', '.join(parts)}", flush=True
        )


if __name__ == "__main__":
    main()
