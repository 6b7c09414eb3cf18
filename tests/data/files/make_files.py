"""Writes the awkward files of this folder: `python tests/data/files/make_files.py`. Needs the extra `files`.

Most hold the same 48 values, an hour, a day, ... apart from 2021-01-20; `test_awkward_files.py` says what
must come of each.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle
import sqlite3
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

FOLDER = Path(__file__).parent
ROWS = 48
FIRST = datetime(2021, 1, 20)
VALUES = [round(50 + 10 * math.sin(row / 4) + row % 7 / 10, 2) for row in range(ROWS)]
LARGE = [round(1000 + 30 * value, 2) for value in VALUES]

HOURS = [FIRST + timedelta(hours=row) for row in range(ROWS)]
DAYS = [FIRST + timedelta(days=row) for row in range(ROWS)]
MONTHS = [datetime(2021 + row // 12, row % 12 + 1, 1) for row in range(ROWS)]


def lines(
    stamps: Sequence[object], values: Sequence[object] = VALUES, *, header: str = "date,y", mark: str = ","
) -> list[str]:
    return [header, *(f"{stamp}{mark}{value}" for stamp, value in zip(stamps, values, strict=True))]


def spelled(stamps: Sequence[datetime], text: str) -> list[str]:
    return [stamp.strftime(text) for stamp in stamps]


def write(name: str, content: Sequence[str] | bytes) -> None:
    raw = content if isinstance(content, bytes) else ("\n".join(content) + "\n").encode()
    (FOLDER / name).write_bytes(raw)


def comma(value: float) -> str:
    return f"{value:.2f}".replace(".", ",")


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as archive:
        archive.write(content)
    return buffer.getvalue()


def kinds() -> None:
    plain = lines(HOURS)
    raw = ("\n".join(plain) + "\n").encode()
    write("plain.csv", plain)
    write("gzip.csv.gz", zipped(raw))
    write("gzip_named_csv.csv", zipped(raw))
    half = raw.index(b"\n", len(raw) // 2) + 1
    write("gzip_in_two.csv.gz", zipped(raw[:half]) + zipped(raw[half:]))
    write("gzip_cut_short.csv.gz", zipped(raw)[:-40])
    write("utf16.csv", b"\xff\xfe" + raw.decode().encode("utf-16-le"))
    write("utf16_big_end.csv", b"\xfe\xff" + raw.decode().encode("utf-16-be"))
    write("utf16_without_mark.csv", raw.decode().encode("utf-16-le"))
    write("utf8_mark.csv", b"\xef\xbb\xbf" + raw)
    write("latin1.csv", raw.replace(b"date,y", b"date,W\xe4rme"))
    write("windows_lines.csv", raw.replace(b"\n", b"\r\n"))
    write("tabs.csv", lines(HOURS, header="date\ty", mark="\t"))
    write("bars.csv", lines(HOURS, header="date|y", mark="|"))
    write("semicolons.csv", lines(HOURS, header="date;y", mark=";"))
    write("spaces.csv", lines(DAYS, header="date y", mark=" "))
    write("pdf.csv", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    write("old_excel.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504))
    write("json.csv", ['[{"date": "2021-01-20", "y": 50.0}, {"date": "2021-01-21", "y": 52.6}]'])
    write("web_page.csv", ["<!DOCTYPE html>", "<html><body>Not found</body></html>"])
    write("pickle.csv", pickle.dumps(VALUES, protocol=4))
    write("binary.csv", bytes(range(1, 9)) + bytes(60) + b"abc")
    write("empty.csv", b"")
    write("header_only.csv", ["date,y"])
    write("no_header.csv", plain[1:])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("plain.csv"), raw[:400])
    write("zip.csv", buffer.getvalue())
    database = sqlite3.connect(":memory:")
    database.execute("create table load (date text, y real)")
    write("sqlite.csv", database.serialize()[:200])
    tables()


def tables() -> None:
    import openpyxl
    import pandas as pd

    book = openpyxl.Workbook()
    book.active.append(["date", "y"])
    for row in zip(HOURS, VALUES, strict=True):
        book.active.append(row)
    book.save(FOLDER / "workbook.xlsx")
    for row in zip(HOURS, VALUES, strict=True):
        (book["More"] if "More" in book.sheetnames else book.create_sheet("More")).append(row)
    book.save(FOLDER / "two_sheets.xlsx")
    frame = pd.DataFrame({"date": HOURS, "y": VALUES})
    frame.to_parquet(FOLDER / "table.parquet")
    local = frame.set_index("date").tz_localize("Europe/Berlin")
    local.to_parquet(FOLDER / "local_index.parquet")
    (FOLDER / "damaged.parquet").write_bytes((FOLDER / "table.parquet").read_bytes()[:400])


def layouts() -> None:
    plain = lines(HOURS)
    write("comments.csv", ["# exported by the meter", "# unit: kWh", *plain])
    write("commented_header.csv", ["# exported by the meter", "# date,y", *plain[1:]])
    write("comment_at_end.csv", [*plain, "# 48 rows"])
    write("blank_first.csv", ["", "", *plain, "", ""])
    write("blank_between.csv", [*plain[:20], "", *plain[20:]])
    counted = [f"{row},{line}" for row, line in enumerate(plain[1:])]
    write("unnamed_index.csv", [",date,y", *counted])
    write(
        "unnamed_index_from_1.csv",
        ["Unnamed: 0,date,y", *(f"{row},{line}" for row, line in enumerate(plain[1:], 1))],
    )
    write("named_index.csv", ["id,date,y", *counted])
    write("trailing_commas.csv", [f"{line}," for line in plain])
    write("comma_in_name.csv", ['date,"a,b",c', *(f"{line},{row % 3}" for row, line in enumerate(plain[1:]))])
    write("header_newline.csv", ['date,"load\n(kW)"', *plain[1:10], f"{HOURS[9]},oops", *plain[11:]])
    write("ragged.csv", [*plain[:30], plain[30] + ",1", *plain[31:]])


def numbers() -> None:
    write("decimal_comma.csv", lines(HOURS, [comma(value) for value in VALUES], header="date;y", mark=";"))
    write("thousands.csv", lines(HOURS, [f'"{value:,.2f}"' for value in LARGE]))
    write("thousands_blank.csv", lines(HOURS, [f"{value:,.2f}".replace(",", "\u202f") for value in LARGE]))
    write("thousands_swiss.csv", lines(HOURS, [f"{value:,.2f}".replace(",", "'") for value in LARGE]))
    german = [f"{value:,.2f}".translate(str.maketrans(",.", ".,")) for value in LARGE]
    write("thousands_german.csv", lines(HOURS, german, header="date;y", mark=";"))
    write("thousands_or_decimals.csv", lines(HOURS, [f'"{round(value):,}"' for value in LARGE]))
    both = [comma(value) if row < 20 else value for row, value in enumerate(VALUES)]
    write("both_decimal_marks.csv", lines(HOURS, both, header="date;y", mark=";"))
    write("per_cent.csv", lines(HOURS, [f"{value} %" for value in VALUES]))
    write("dollars.csv", lines(HOURS, [f'"${value:,.2f}"' for value in LARGE]))
    write("euros.csv", lines(HOURS, [f"{comma(value)} €" for value in VALUES], header="date;y", mark=";"))
    units = [f"{value} %" if row != 5 else value for row, value in enumerate(VALUES)]
    write("mixed_units.csv", lines(HOURS, units))
    write("accountants.csv", lines(HOURS, [f"({value})" for value in VALUES]))
    write("typographers_minus.csv", lines(HOURS, [f"\u2212{value}" for value in VALUES]))
    write("outlier.csv", lines(HOURS, [1e9 if row == 10 else value for row, value in enumerate(VALUES)]))
    write(
        "outlier_not_forecast.csv",
        [
            "date,y,x",
            *(
                f"{stamp},{value},{1e9 if row == 10 else row % 5}"
                for row, (stamp, value) in enumerate(zip(HOURS, VALUES, strict=True))
            ),
        ],
    )
    write("tiny.csv", lines(HOURS, [f"{value}e-200" for value in VALUES]))
    write("huge.csv", lines(HOURS, [f"{value}e200" for value in VALUES]))
    write("one_huge.csv", lines(HOURS, ["1e200" if row == 3 else value for row, value in enumerate(VALUES)]))
    write("text.csv", lines(HOURS, ["high" if row == 7 else value for row, value in enumerate(VALUES)]))


def dates() -> None:
    formats = {
        "day_first": "%d/%m/%Y %H:%M", "month_first": "%m/%d/%Y %H:%M", "dots": "%d.%m.%Y %H:%M",
        "two_digit_year": "%d.%m.%y %H:%M", "year_first": "%Y/%m/%d %H:%M", "month_names": "%d-%b-%Y %H:%M",
        "long_names": "%B %d, %Y %H:%M", "weekdays": "%a, %d %b %Y %H:%M:%S", "am_pm": "%Y-%m-%d %I:%M:%S %p",
        "am_pm_month_first": "%m/%d/%Y %I:%M %p", "without_marks": "%Y%m%d%H%M", "basic_iso": "%Y%m%dT%H%M%S",
    }  # fmt: skip
    for name, text in formats.items():
        write(f"dates_{name}.csv", lines(spelled(HOURS, f'"{text}"' if "," in text else text)))
    early = [datetime(2021, 1, 11) + timedelta(hours=row) for row in range(ROWS)]
    write("dates_told_by_steps.csv", lines(spelled(early, "%d/%m/%Y %H:%M")))
    write(
        "dates_ambiguous.csv",
        lines(spelled([datetime(2021, 1, 1 + row) for row in range(12)], "%d/%m/%Y"), VALUES[:12]),
    )
    first = spelled(DAYS, "%d/%m/%Y")
    write("dates_in_both_orders.csv", lines([*first[:5], DAYS[5].strftime("%m/%d/%Y"), *first[6:]]))
    write("dates_without_such_a_day.csv", lines([*first[:12], "32/01/2021", *first[13:]]))
    write("dates_unlike.csv", lines([*spelled(DAYS[:5], "%Y-%m-%d"), *spelled(DAYS[5:], "%d.%m.%Y")]))
    hour_ends = [
        f"{stamp - timedelta(hours=1):%Y-%m-%d} {(stamp - timedelta(hours=1)).hour + 1:02d}:00"
        for stamp in HOURS
    ]
    write("dates_24_00.csv", lines(hour_ends))
    start = datetime(1899, 12, 30)
    write("excel_days.csv", lines([(day - start).days for day in DAYS]))
    write("excel_fractions.csv", lines([f"{(hour - start) / timedelta(days=1):.10f}" for hour in HOURS]))
    write("excel_or_counter.csv", lines([(day - start).days for day in DAYS], header="n,y"))
    seconds = [int((hour - datetime(1970, 1, 1)).total_seconds()) for hour in HOURS]
    for unit, power in (("seconds", 0), ("milliseconds", 3), ("microseconds", 6), ("nanoseconds", 9)):
        write(f"epoch_{unit}.csv", lines([second * 10**power for second in seconds]))
    write("counter.csv", lines(range(ROWS), header="n,y"))
    write("days_without_marks.csv", lines(spelled(DAYS, "%Y%m%d")))
    write("months_without_marks.csv", lines(spelled(MONTHS, "%Y%m")))
    write("months_slash.csv", lines(spelled(MONTHS, "%m/%Y")))
    write("months_by_name.csv", lines(spelled(MONTHS, "%b %Y")))
    write("years.csv", lines(range(1970, 1970 + ROWS), header="year,y"))
    write("quarters.csv", lines([f"{2000 + row // 4}Q{row % 4 + 1}" for row in range(ROWS)]))
    write("quarters_front.csv", lines([f"Q{row % 4 + 1} {2000 + row // 4}" for row in range(ROWS)]))
    monday = date(2021, 1, 18)
    write("iso_weeks.csv", lines([(monday + timedelta(weeks=row)).strftime("%G-W%V") for row in range(ROWS)]))
    write("zone_by_name.csv", lines([f"{hour} CET" for hour in HOURS]))
    pairs = list(zip(HOURS, VALUES, strict=True))
    write("date_and_time.csv", ["Date,Time,y", *(f"{at:%d/%m/%Y,%H:%M},{value}" for at, value in pairs)])
    write("date_and_hour.csv", ["Date,Hour,y", *(f"{at:%Y-%m-%d},{at.hour},{value}" for at, value in pairs)])
    write(
        "date_apart_from_time.csv",
        ["Date,y,Time", *(f"{at:%Y-%m-%d},{value},{at:%H:%M}" for at, value in pairs)],
    )
    write(
        "year_month_day_hour.csv",
        [
            "year,month,day,hour,y",
            *(f"{at.year},{at.month},{at.day},{at.hour},{value}" for at, value in pairs),
        ],
    )


def clocks() -> None:
    from zoneinfo import ZoneInfo

    def local(start: datetime, zone: str) -> list[datetime]:
        first = start.replace(tzinfo=ZoneInfo("UTC"))
        return [(first + timedelta(hours=row)).astimezone(ZoneInfo(zone)) for row in range(ROWS)]

    spring, autumn = datetime(2021, 3, 27, 3), datetime(2021, 10, 30, 3)
    write("offsets.csv", lines([at.isoformat() for at in local(spring, "Europe/Berlin")]))
    write("zulu.csv", lines([f"{hour.isoformat()}Z" for hour in HOURS]))
    write(
        "offsets_some.csv", lines([f"{hour}{'+01:00' if row < 30 else ''}" for row, hour in enumerate(HOURS)])
    )
    days = [
        datetime(2021, 3, 1, tzinfo=ZoneInfo("Europe/Berlin")) + timedelta(days=row) for row in range(ROWS)
    ]
    write("offsets_of_days.csv", lines([day.isoformat() for day in days]))
    naive = "%Y-%m-%d %H:%M"
    write("daylight_spring.csv", lines(spelled(local(spring, "Europe/Berlin"), naive)))
    write("daylight_autumn.csv", lines(spelled(local(autumn, "Europe/Berlin"), naive)))
    write("daylight_america.csv", lines(spelled(local(datetime(2021, 3, 13, 12), "America/New_York"), naive)))


def rows() -> None:
    def kept(stamps: Sequence[datetime], keep: Callable[[int, datetime], bool]) -> list[str]:
        pairs = enumerate(zip(stamps, VALUES, strict=True))
        return ["date,y", *(f"{at:%Y-%m-%d %H:%M},{value}" for row, (at, value) in pairs if keep(row, at))]

    write("business_days.csv", kept(DAYS, lambda row, at: at.weekday() < 5))
    write("shop_days.csv", kept(DAYS, lambda row, at: at.weekday() != 6))
    write("gap.csv", kept(HOURS, lambda row, at: row not in (20, 21)))
    write("long_gap.csv", kept(HOURS, lambda row, at: not 10 <= row < 25))
    write("many_gaps.csv", kept(HOURS, lambda row, at: row % 2 == 0 or row > 44))
    odd = [FIRST + timedelta(minutes=60 * row + (row % 3) * 7) for row in range(ROWS)]
    write("uneven.csv", lines(odd))
    empty = ["" if row in (4, 5, 30) else value for row, value in enumerate(VALUES)]
    write("empty_cells.csv", lines(HOURS, empty))
    ends = [(datetime(at.year + at.month // 12, at.month % 12 + 1, 1) - timedelta(days=1)) for at in MONTHS]
    write("month_ends.csv", lines(spelled(ends, "%Y-%m-%d")))
    weekdays = [end - timedelta(days=max(0, end.weekday() - 4)) for end in ends]
    write("month_ends_of_business.csv", lines(spelled(weekdays, "%Y-%m-%d")))
    write(
        "weeks_on_wednesday.csv",
        lines(spelled([FIRST + timedelta(weeks=row) for row in range(ROWS)], "%Y-%m-%d")),
    )
    plain = lines(HOURS)
    write("newest_first.csv", [plain[0], *plain[:0:-1]])
    write("repeated_row.csv", [*plain[:10], plain[9], *plain[10:]])
    write("repeated_time.csv", [*plain[:10], f"{HOURS[8]},99", *plain[10:]])
    write("unsorted.csv", [*plain[:10], plain[11], plain[10], *plain[12:]])
    shops = [
        f"{at:%Y-%m-%d},{value},{shop}"
        for shop in "ABC"
        for at, value in list(zip(DAYS, VALUES, strict=True))[:16]
    ]
    write("shops_one_by_one.csv", ["date,y,shop", *shops])
    write("shops_side_by_side.csv", ["date,y,shop", *sorted(shops)])
    write(
        "shops_by_number.csv",
        ["date,y,store", *(line.replace("A", "1").replace("B", "2").replace("C", "3") for line in shops)],
    )
    write(
        "shops_and_articles.csv",
        [
            "date,shop,article,y",
            *(
                f"{at:%Y-%m-%d},{shop},{article},{value}"
                for at, value in list(zip(DAYS, VALUES, strict=True))[:10]
                for shop in "AB"
                for article in ("x", "y")
            ),
        ],
    )


SHOP_ROWS = 20
SHOPS = {"A": 0, "B": 100, "C": 200}
"""What is added to the values of each."""


def of_shops(stamps: Sequence[object], shops: str = "ABC") -> list[tuple[str, object, float]]:
    """Return shop, time and value, one shop after the other."""
    return [
        (shop, stamp, round(value + SHOPS[shop], 2))
        for shop in shops
        for stamp, value in zip(stamps, VALUES[: len(stamps)], strict=True)
    ]


def panel(name: str, rows: Sequence[Sequence[object]], header: str = "shop,date,sales") -> None:
    write(f"panel_{name}.csv", [header, *(",".join(map(str, row)) for row in rows)])


def panels() -> None:
    days = spelled(DAYS[:SHOP_ROWS], "%Y-%m-%d")
    plain = of_shops(days)
    panel("key_first", plain)
    by_day = sorted(plain, key=lambda row: str(row[1]))
    panel("side_by_side", [(day, value, shop) for shop, day, value in by_day], "date,sales,shop")
    panel("newest_first", plain[::-1])
    panel("unequal", [*of_shops(days, "A"), *of_shops(days[5:17], "B"), *of_shops(days[:2], "C")])
    two = [(shop, article, day, value) for shop, day, value in of_shops(days, "AB") for article in "xy"]
    panel("two_keys", two, "shop,article,date,sales")
    gap = [row for row in plain if row[:2] not in (("B", days[7]), ("B", days[8]), ("C", days[4]))]
    panel("gap", gap)
    early = [datetime(2021, 1, 11, 12) + timedelta(hours=row) for row in range(SHOP_ROWS)]
    panel("told_by_steps", of_shops(spelled(early, "%d/%m/%Y %H:%M")))
    ends = [(datetime(2021 + row // 12, row % 12 + 1, 1) - timedelta(days=1)) for row in range(SHOP_ROWS)]
    panel(
        "month_ends",
        [*of_shops(spelled(ends, "%Y-%m-%d"), "A"), *of_shops(spelled(ends[3:], "%Y-%m-%d"), "B")],
    )
    panel("comma_in_key", [(f'"{shop}"', day, value) for shop, day, value in plain], '"shop,town",date,sales')
    panel("semicolons", [(f"{shop};{day};{comma(value)}",) for shop, day, value in plain], "shop;date;sales")
    panel("empty_key", [*plain[:30], ("", *plain[30][1:]), *plain[31:]])
    panel("text", [*plain[:30], ("B", days[10], "many"), *plain[31:]])
    panel("empty_cells", [*plain[:20], ("B", days[0], ""), ("B", days[1], ""), *plain[22:]])
    panel("repeats", [*plain[:30], plain[29], *plain[30:]])
    panel("two_steps", [*of_shops(days, "AC"), *of_shops(days[::2], "B")])
    panel("half_a_day", [*of_shops(days, "A"), *of_shops([f"{day} 12:00" for day in days], "B")])
    panel(
        "months_apart",
        [*of_shops(spelled(MONTHS[:20], "%Y-%m-%d"), "A"), *of_shops(spelled(ends, "%Y-%m-%d"), "B")],
    )
    panel("short", [row for row in plain if row[1] in days[:2]])
    panel("only_keys", plain, "shop,town,sales")


def futures() -> None:
    days = spelled(DAYS[:SHOP_ROWS], "%Y-%m-%d")
    promo = [row % 3 for row in range(SHOP_ROWS)]
    rows = [f"{day},{VALUES[row]},{promo[row]},{row % 5}" for row, day in enumerate(days)]
    header = "date,sales,promo,price"
    later = [f"{day},,{promo[row]},{row % 5}" for row, day in enumerate(days)][15:]
    write("future_two.csv", [header, *rows[:15], *later])
    write("future_newest_first.csv", [header, *[*rows[:15], *later][::-1]])
    write("future_empty.csv", [header, *rows[:15], *later[:3], f"{days[18]},,,3"])
    write("future_gap.csv", [header, *rows[:15], *later[1:]])
    write("future_text.csv", [header, *rows[:15], later[0], f"{days[16]},,yes,2"])
    shops = [
        f"{shop},{day},{value if index % SHOP_ROWS < 16 - SHOPS[shop] // 100 else ''},{index % 3}"
        for index, (shop, day, value) in enumerate(of_shops(days))
    ]
    write("future_of_shops.csv", ["shop,date,sales,promo", *shops])


if __name__ == "__main__":
    kinds()
    layouts()
    numbers()
    dates()
    clocks()
    rows()
    panels()
    futures()
