"""The words that the training text is made of: shared slots, and one `Topic` for each thing it talks about.

Data only. A template names slots in braces; an option may name slots itself. Within one document a slot keeps
its value; {task} and {task2} share their options and differ.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

Slots = Mapping[str, tuple[str, ...]]


class Topic(NamedTuple):
    """What a group of documents is about.

    `labels` are words that go with each of its documents without being part of their text, as a category does.
    """

    labels: tuple[str, ...]
    titles: tuple[str, ...]
    openers: tuple[str, ...]
    middles: tuple[str, ...]
    closers: tuple[str, ...]
    slots: Slots = MappingProxyType({})
    documents: int = 24


SHARED: Slots = {
    "person": ("{given} {family}",),
    "given": ("Mara", "Jonas", "Amina", "Tomas", "Priya", "Elif", "Noah", "Ingrid", "Luis", "Wanda", "Kofi", "Yuki"),
    "family": ("Lindqvist", "Okafor", "Brandt", "Moreau", "Castellan", "Hayashi", "Novak", "Pereira", "Quist", "Ward"),
    "company": ("Lumora", "Northbeam", "Tidewell", "Kestrel Labs", "Oakline", "Brightfern", "Halden", "Pixelyard"),
    "product": ("{company} Cloud", "{company} Notes", "{company} Desk", "{company} One", "{company} Flow"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    "month": ("January", "March", "April", "June", "September", "October", "November"),
    "city": ("Lisbon", "Oslo", "Nairobi", "Toronto", "Osaka", "Leeds", "Graz", "Porto"),
    "number": ("two", "three", "four", "five", "six", "ten", "twelve", "twenty"),
    "level": ("Senior", "Lead", "Junior", "Principal", "Staff", "Associate"),
    "team": ("a small team", "the platform team", "the product group", "a remote team", "a team of {number}"),
    "audience": ("customers", "colleagues", "researchers", "small firms", "the public", "other teams", "partners"),
}

JOB_TITLES = ("{level} {role}", "{role}", "{role}, {city}", "{level} {role} at {company}", "{role} for {audience}")
JOB_OPENERS = (
    "The {role} will {task} and {task2} for {audience}.",
    "You {task}, {task2} and report to {person}.",
    "We are looking for someone who can {task} with {team}.",
    "Someone in this job will {task} and {task2} every day.",
)
JOB_MIDDLES = (
    "You work with {tool} and {tool2} in {team}.",
    "Most weeks you {task2} before {day} and {task} after it.",
    "Experience with {tool} helps, and curiosity helps more.",
    "The work is close to {audience}, so clear writing matters.",
    "You will also {task2} together with {person}.",
)
JOB_CLOSERS = (
    "The job is in {city} or remote.",
    "It suits people who like to {task}.",
    "You will learn {tool2} on the way.",
    "Salary and hours are open to discussion.",
)


def _job(words: str, roles: tuple[str, ...], tasks: tuple[str, ...], tools: tuple[str, ...]) -> Topic:
    slots = {"role": roles, "task": tasks, "task2": tasks, "tool": tools, "tool2": tools}
    labels = ("job", "role", "position", "description", "career", *words.split())
    return Topic(labels, JOB_TITLES, JOB_OPENERS, JOB_MIDDLES, JOB_CLOSERS, slots, 26)


JOBS = (
    _job(
        "ai software engineering",
        ("Full Stack AI Engineer", "AI Application Developer", "Applied AI Engineer", "AI Product Engineer"),
        (
            "build full stack AI apps",
            "turn language models into useful products",
            "design prompts and measure what they do",
            "connect models to databases and web pages",
            "ship AI features from idea to launch",
        ),
        ("Python", "TypeScript", "language models", "vector search", "prompt tests"),
    ),
    _job(
        "data science analytics",
        ("Data Scientist", "Data Science Manager", "Analytics Engineer", "Machine Learning Engineer"),
        (
            "find patterns in large tables of data",
            "train and evaluate machine learning models",
            "explain results to people who decide",
            "plan experiments and read their outcome with care",
            "keep the data pipelines honest",
        ),
        ("SQL", "statistics", "notebooks", "Python", "dashboards"),
    ),
    _job(
        "security operations infrastructure",
        ("Security Engineer", "Site Reliability Engineer", "Cloud Operator", "Platform Engineer"),
        (
            "keep servers healthy and quiet",
            "look for weak spots before others do",
            "automate what was done by hand",
            "answer incidents and write down what was learned",
            "plan capacity for busy days",
        ),
        ("Linux", "networks", "containers", "monitoring", "access rules"),
    ),
    _job(
        "design creative writing",
        ("Product Designer", "Technical Writer", "Content Strategist", "Brand Illustrator"),
        (
            "sketch screens that people understand at once",
            "write guides that answer the real question",
            "talk with users and draw what they need",
            "choose words, colours and pictures for the brand",
            "test drafts with people who have never seen them",
        ),
        ("drawing tools", "interviews", "style guides", "prototypes", "typography"),
    ),
    _job(
        "finance sales marketing business",
        ("Account Manager", "Financial Analyst", "Sales Partner", "Marketing Planner"),
        (
            "look after long customer relations",
            "prepare budgets and compare them with reality",
            "explain prices in plain words",
            "plan campaigns and count what they bring",
            "negotiate contracts that both sides like",
        ),
        ("spreadsheets", "forecasts", "presentations", "customer lists", "contracts"),
    ),
    _job(
        "support teaching people education",
        ("Support Specialist", "Customer Success Lead", "Teacher", "Training Coordinator"),
        (
            "help customers over the phone and by mail",
            "sort tickets and find the right colleague",
            "teach beginners with patience",
            "prepare lessons and short videos",
            "listen first and answer in plain language",
        ),
        ("ticket systems", "lesson plans", "chat tools", "knowledge bases", "workshops"),
    ),
)
