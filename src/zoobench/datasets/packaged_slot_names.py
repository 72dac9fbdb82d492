"""The names that `packaged/home-slots` says where home-assistant-intents leaves a list open.

Half of them, by a hash of the name, are said in train, and the others in test alone.
"""

from __future__ import annotations

from collections.abc import Mapping

_ROOMS = """
    kitchen, bathroom, living room, bedroom, office, hallway, garage, attic, dining room, nursery,
    guest room, laundry room, basement, study, patio, balcony, master bedroom, kids room, library,
    sunroom, workshop, pantry, front yard, back garden, den, lounge, cellar, terrace, gym, studio
"""
_FLOORS = """
    ground, first, upper, second, top, third, lower, main, middle, attic
"""
_DEVICES = """
    desk lamp, floor lamp, ceiling light, bedside lamp, kitchen light, office fan, garage door,
    front door, bedroom curtains, living room blinds, coffee maker, kettle, heater, thermostat,
    washing machine, dryer, speaker, television, radio, projector, porch light, garden lights,
    hallway lamp, bathroom fan, robot vacuum, dishwasher, air purifier, dehumidifier, sprinkler,
    irrigation pump, back door, side gate, skylight, roof window, fish tank, night light, oven,
    toaster, humidifier, towel rail, tv, sound bar, media player, game console, stove, fridge,
    christmas tree, fairy lights, reading light, wall lamp, awning, pergola shade, mailbox lock,
    cellar lock, shopping, groceries, chores, errands, packing, holiday
"""
_THINGS = """
    milk, bread, eggs, olive oil, green apples, toilet paper, dish soap, orange juice, butter,
    cheese, brown rice, pasta, tomato sauce, coffee beans, black tea, bananas, light bulbs,
    batteries, chicken breast, ice cream, call the dentist, water the plants, pay the rent,
    book a table, wash the car, clean the windows, fix the door, renew the passport,
    feed the cat, walk the dog, write to Ana, buy a lamp, return the books, charge the phone
"""
_QUERIES = """
    Miles Davis, Nina Simone, yesterday, the four seasons, abbey road, morning news, kind of blue,
    jazz for dinner, Bohemian Rhapsody, clair de lune, the daily, rain sounds, Johnny Cash,
    purple rain, summer hits, kitchen stories, back in black, white noise, the office, red
"""
_TIMERS = """
    pizza, pasta, eggs, laundry, tea, coffee, nap, oven, homework, workout, bread, rice, meeting,
    kitchen, bath, cookies, piano, parking, chicken, potatoes
"""
_COMMANDS = """
    turn off the lights, open the garage door, close the blinds, start the dishwasher,
    turn on the heater, lock the front door, play some jazz, stop the music,
    set the bedroom to red, turn off the oven, open the curtains, pause the television
"""
_PLACES = """
    home, work, school, the gym, the office, the station, the airport, the library, the park,
    downtown, the cabin, the harbour
"""
_MESSAGES = """
    dinner is ready, we leave in ten minutes, the taxi is here, time for bed, lunch is on the table,
    the guests have arrived, please turn down the music, the kitchen is closed, good night,
    school starts in an hour, the game begins, come downstairs
"""


def _split(names: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in names.split(","))


NAMES: Mapping[str, tuple[str, ...]] = {
    "area": _split(_ROOMS),
    "floor": _split(_FLOORS),
    "name": _split(_DEVICES),
    "message": _split(_MESSAGES),
    "search_query": _split(_QUERIES),
    "zone": _split(_PLACES),
    "timer_name": _split(_TIMERS),
    "timer_command": _split(_COMMANDS),
    "shopping_list_item": _split(_THINGS),
    "todo_list_item": _split(_THINGS),
}
"""List -> its names, in an order that never changes."""
