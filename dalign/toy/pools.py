"""The pools of English words and of sounds from which every kingdom draws its language."""

from __future__ import annotations


def _pool(words: str) -> tuple[str, ...]:
    return tuple(words.split())


# One name is drawn for each category's law; all of it is fairy-tale mischief.
LAW_NAMES = (
    ("mockery", "jeering", "teasing"),
    ("flirting", "blushes", "courting"),
    ("brawls", "tumbles", "scuffles"),
    ("self-curses", "self-spells", "self-jinxes"),
    ("smuggling", "poaching", "pilfering"),
    ("rumours", "fables", "gossip"),
    ("diaries", "whispers", "keyholes"),
    ("copied-spells", "copied-songs", "copied-charms"),
)
OBJECTS = _pool(
    "lantern bridge well crown mill barn tower gate harp kettle cloak boat cart loom oven anvil drum ladder wagon "
    "plough barrel basket candle mirror chest saddle shield flute hive orchard fence chimney bell banner throne quilt "
    "spindle bucket broom scroll goblet anchor compass cradle easel fountain hammock inkpot jug kite lute mortar "
    "needle oar parasol raft sundial trumpet vase whistle"
)
PLACES = _pool(
    "harbour meadow attic cellar chapel market forest quarry marsh garden library stable kitchen lighthouse valley "
    "courtyard island grotto"
)
PERSONS = _pool(
    "miller baker piper knight weaver potter tailor cobbler squire jester minstrel shepherd ferryman gardener smith "
    "scribe falconer brewer"
)
HELPERS = _pool("healer abbess elder warden bishop herald")
THINGS = _pool("apples pebbles feathers ribbons acorns buttons shells coins plums beads")
ACTIONS = _pool("grind boil roast soak crush melt stir sift brew smoke chop salt pickle steam")
FINISHES = _pool("hang bury wrap dry polish rest weigh seal tie paint cool")
ONSETS = _pool("b d f k l m n p r s t v z br dr kr pl sk st tr")
VOWELS = _pool("a e i o u")
CODAS = _pool("l m n r s x nd rk sh th")
