"""The built-in template sets: days, months, hours, years, numbers, ages, hues, places and kin, with their
labels.

Each is a function that returns a set in the format of `templates.py`. Labels are never rescaled: periods
stand here.
"""

import math
from collections.abc import Callable
from datetime import date
from typing import Any

MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September"]
MONTHS += ["October", "November", "December"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
NAMES = ["Anna", "Mary", "John", "Paul", "Mark", "Lisa"]  # the notebook's
MORE_NAMES = [*NAMES, "David", "Emma", "Laura", "Peter", "Sarah", "Tom"]
PLACES = ["Berlin", "London", "Paris", "Rome", "Madrid", "Vienna"]


def birthdays() -> dict[str, Any]:
    """The notebook's sentences. Labels: date = day of the year / 365 in [0, 1), month 1–12, day 1–31."""
    dates = []
    for month in range(1, 13):
        days = (date(2023 + month // 12, month % 12 + 1, 1) - date(2023, month, 1)).days
        for day in range(1, days + 1):
            labels = {
                "date": (date(2023, month, day).timetuple().tm_yday - 1) / 365,
                "month": month,
                "day": day,
            }
            values = {"day": ordinal(day), "month": MONTHS[month - 1], "labels": labels, "weight": 1 / days}
            dates.append(values)
    template = (
        "{name} was born on the {day} of {month}. {name} plays volleyball. {name}'s favourite color is "
        "green. "
        "{name} lives in Berlin. {name} had a party on her birthday."
    )
    words = {word: word for word in ("born", "volleyball", "color", "Berlin", "party", "birthday")}
    return _set("birthdays", [template], {"name": NAMES, "date": dates}, words, repeats=True)


def weekdays() -> dict[str, Any]:
    """Label weekday: Monday 0 … Sunday 6, period 7."""
    templates = [
        "{name} will visit {place} on {weekday}. The train for the meeting leaves early.",
        "The meeting in {place} is on {weekday}, and {name} has prepared the talk.",
        "It was a {weekday} when {name} came home from {place} after the long meeting.",
        "Every {weekday} {name} takes the bus to {place} for the weekly meeting.",
    ]
    choices = [{"weekday": day, "labels": {"weekday": k}} for k, day in enumerate(DAYS)]
    slots = {"weekday": choices, "name": MORE_NAMES, "place": PLACES}
    return _set("weekdays", templates, slots, {"meeting": "meeting"})


def months() -> dict[str, Any]:
    """Label month: January 1 … December 12, period 12."""
    templates = [
        "{name} moved to {place} in {month}. The weather was as one would expect.",
        "In {month} the weather in {place} surprised {name} every year.",
        "{name} has booked a holiday in {place} for {month} because of the weather.",
        "The weather of {month} is what {name} misses most about {place}.",
    ]
    choices = [{"month": month, "labels": {"month": k}} for k, month in enumerate(MONTHS, 1)]
    return _set(
        "months", templates, {"month": choices, "name": NAMES, "place": PLACES}, {"weather": "weather"}
    )


def hours() -> dict[str, Any]:
    """Label hour: 0–23 (12 am is 0), period 24."""
    templates = [
        "{name} arrived in {place} at {hour} and looked at the clock.",
        "The clock in {place} showed {hour} when {name} left the house.",
        "At {hour} {name} called a friend in {place} and set the clock.",
    ]
    choices = [
        {"hour": f"{(h - 1) % 12 + 1} {'am' if h < 12 else 'pm'}", "labels": {"hour": h}} for h in range(24)
    ]
    return _set("hours", templates, {"hour": choices, "name": NAMES, "place": PLACES}, {"clock": "clock"})


def years() -> dict[str, Any]:
    """Label year: 1900–2019."""
    templates = [
        "In {year} a new bridge was built in {place}, and history was made.",
        "The old map of {place} from {year} shows a piece of history.",
        "{place} had fewer people in {year} than today, as its history tells.",
    ]
    choices = [{"year": str(year), "labels": {"year": year}} for year in range(1900, 2020)]
    return _set("years", templates, {"year": choices, "place": PLACES}, {"history": "history"})


def numbers() -> dict[str, Any]:
    """Labels number: 1–999, log10: its decimal logarithm."""
    templates = [
        "{name} counted {number} coins in the box.",
        "There are {number} coins in the box, {name} said.",
    ]
    choices = [{"number": str(k), "labels": {"number": k, "log10": math.log10(k)}} for k in range(1, 1000)]
    return _set("numbers", templates, {"number": choices, "name": NAMES}, {"coins": "coins", "box": "box"})


def ages() -> dict[str, Any]:
    """Label age: 1–99 years."""
    templates = [
        "{name} is {age} years old and lives in {place}.",
        "At the age of {age} years {name} moved to {place}.",
        "{name} from {place} turned {age} years last week.",
    ]
    choices = [{"age": str(k), "labels": {"age": k}} for k in range(1, 100)]
    return _set("ages", templates, {"age": choices, "name": NAMES, "place": PLACES}, {"years": "years"})


#: hue in degrees (HSV) of the CSS colour of that name
HUES = {
    "red": 0,
    "maroon": 0,
    "salmon": 6,
    "tomato": 9,
    "coral": 16,
    "chocolate": 25,
    "tan": 34,
    "orange": 39,
}
HUES |= {
    "gold": 51,
    "khaki": 54,
    "yellow": 60,
    "olive": 60,
    "chartreuse": 90,
    "green": 120,
    "lime green": 120,
}
HUES |= {"spring green": 150, "aquamarine": 160, "turquoise": 174, "teal": 180, "cyan": 180, "sky blue": 197}
HUES |= {
    "steel blue": 207,
    "royal blue": 225,
    "blue": 240,
    "navy": 240,
    "indigo": 275,
    "purple": 300,
    "violet": 300,
}
HUES |= {"magenta": 300, "orchid": 302, "deep pink": 328, "hot pink": 330, "crimson": 348, "pink": 350}


def colours() -> dict[str, Any]:
    """Label hue: the colour's angle / 360 in [0, 1), period 1."""
    templates = [
        "{name} painted the wall of the house in {place} {colour} last summer.",
        "The {colour} house in {place} belongs to {name}, who painted the wall.",
        "{name} likes {colour} best, so the house in {place} has one such wall.",
    ]
    choices = [{"colour": colour, "labels": {"hue": hue / 360}} for colour, hue in HUES.items()]
    return _set("colours", templates, {"colour": choices, "name": NAMES, "place": PLACES}, {"house": "house"})


#: degrees north, degrees east
CITIES = """
Amsterdam 52.37 4.90; Athens 37.98 23.73; Auckland -36.85 174.76; Baghdad 33.31 44.37; Bangkok 13.76 100.50;
Beijing 39.90 116.41; Berlin 52.52 13.40; Bogotá 4.71 -74.07; Boston 42.36 -71.06; Brisbane -27.47 153.03;
Brussels 50.85 4.35; Budapest 47.50 19.04; Buenos Aires -34.60 -58.38; Cairo 30.04 31.24;
Cape Town -33.92 18.42;
Caracas 10.48 -66.90; Casablanca 33.57 -7.59; Chicago 41.88 -87.63; Copenhagen 55.68 12.57;
Dakar 14.72 -17.47;
Dallas 32.78 -96.80; Delhi 28.61 77.21; Denver 39.74 -104.99; Dublin 53.35 -6.26; Hanoi 21.03 105.85;
Havana 23.11 -82.37; Helsinki 60.17 24.94; Honolulu 21.31 -157.86; Istanbul 41.01 28.98; Jakarta -6.21 106.85;
Johannesburg -26.20 28.05; Karachi 24.86 67.00; Kinshasa -4.44 15.27; Lagos 6.52 3.38; Lima -12.05 -77.04;
Lisbon 38.72 -9.14; London 51.51 -0.13; Madrid 40.42 -3.70; Manila 14.60 120.98; Melbourne -37.81 144.96;
Mexico City 19.43 -99.13; Miami 25.76 -80.19; Montreal 45.50 -73.57; Moscow 55.76 37.62; Mumbai 19.08 72.88;
Nairobi -1.29 36.82; Oslo 59.91 10.75; Paris 48.86 2.35; Perth -31.95 115.86; Prague 50.08 14.44;
Quito -0.18 -78.47; Reykjavik 64.15 -21.94; Rome 41.90 12.50; Santiago -33.45 -70.67; Seattle 47.61 -122.33;
Seoul 37.57 126.98; Shanghai 31.23 121.47; Singapore 1.35 103.82; Stockholm 59.33 18.07; Sydney -33.87 151.21;
Tehran 35.69 51.39; Tokyo 35.68 139.69; Toronto 43.65 -79.38; Vancouver 49.28 -123.12; Vienna 48.21 16.37;
Warsaw 52.23 21.01; Wellington -41.29 174.78; Zurich 47.37 8.54
"""


def cities() -> dict[str, Any]:
    """Labels latitude: -90–90 degrees north, longitude: -180–180 degrees east, city: its name."""
    templates = [
        "{name} flew to {city} to see a friend and sent a letter home.",
        "{name} was born in {city}, as the letter says.",
        "The letter that {name} wrote came from {city} last week.",
    ]
    choices = []
    for entry in CITIES.replace("\n", " ").strip().split(";"):
        city, north, east = entry.strip().rsplit(" ", 2)
        choices.append(
            {"city": city, "labels": {"latitude": float(north), "longitude": float(east), "city": city}}
        )
    return _set("cities", templates, {"city": choices, "name": MORE_NAMES}, {"letter": "letter"})


#: generations above the speaker, (male, female), by marriage
KIN = [
    (3, ("great-grandfather", "great-grandmother"), 0),
    (2, ("grandfather", "grandmother"), 0),
    (1, ("father", "mother"), 0),
    (1, ("uncle", "aunt"), 0),
    (1, ("father-in-law", "mother-in-law"), 1),
    (0, ("brother", "sister"), 0),
    (0, ("husband", "wife"), 1),
    (0, ("brother-in-law", "sister-in-law"), 1),
    (-1, ("son", "daughter"), 0),
    (-1, ("nephew", "niece"), 0),
    (-1, ("son-in-law", "daughter-in-law"), 1),
    (-2, ("grandson", "granddaughter"), 0),
]


def family() -> dict[str, Any]:
    """Labels generation: 3 … -2 above the speaker, female: 0 or 1, marriage: 0 or 1, relation: its name."""
    templates = [
        "{name} visited a {relation} in {place}, and the whole family was glad.",
        "In {place} {name} has a {relation} who knows the whole family.",
        "The {relation} of {name} lives in {place} near the rest of the family.",
    ]
    choices = []
    for generation, pair, marriage in KIN:
        for female, relation in enumerate(pair):
            labels = {"generation": generation, "female": female, "marriage": marriage, "relation": relation}
            choices.append({"relation": relation, "labels": labels})
    return _set(
        "family", templates, {"relation": choices, "name": MORE_NAMES, "place": PLACES}, {"family": "family"}
    )


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th, …, 11th, …"""
    suffix = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def _set(
    name: str, templates: list[str], slots: dict[str, Any], words: dict[str, str], *, repeats: bool = False
) -> dict[str, Any]:
    return {"name": name, "templates": templates, "slots": slots, "landmarks": words, "repeats": repeats}


SETS: dict[str, Callable[[], dict[str, Any]]] = {
    made.__name__: made
    for made in (birthdays, weekdays, months, hours, years, numbers, ages, colours, cities, family)
}
