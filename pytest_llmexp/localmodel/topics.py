"""Topics of support tickets, reviews and product news. Data only."""

from pytest_llmexp.localmodel.vocabulary import JOBS, Topic

TICKET_CLOSERS = (
    "Please help me soon.",
    "Can someone look into this?",
    "I wrote to you on {day} and have had no answer.",
    "Thank you for your help.",
    "Kind regards, {person}.",
)

TICKETS = (
    Topic(
        ("billing", "payment", "invoice", "ticket", "support", "finance"),
        (
            "Charged twice in {month}",
            "Wrong amount on my invoice",
            "Card payment was declined",
            "Question about a bill",
        ),
        (
            "I was charged twice for the {plan} plan in {month}.",
            "The invoice for {month} shows the wrong amount.",
            "My credit card was declined when I tried to pay the bill.",
            "The price on my bill is higher than the price you quoted.",
        ),
        (
            "The bank shows {number} payments to {company}.",
            "I would like my money back or a correct invoice.",
            "The tax and the discount are missing from the receipt.",
            "I changed the credit card last week, but the old card is still billed.",
        ),
        TICKET_CLOSERS,
        {"plan": ("yearly", "team", "basic", "premium")},
        34,
    ),
    Topic(
        ("technical", "bug", "software", "ticket", "support", "problem", "engineering"),
        ("App crashes on start", "Error after the update", "Pages load very slowly", "Export does not work"),
        (
            "The app crashes when I open the {part}.",
            "Since the last update I see an error on the {part}.",
            "The {part} loads very slowly and then freezes.",
            "The export button does not work in {product}.",
        ),
        (
            "The error message says that the server did not respond.",
            "I restarted the computer and installed the new version again.",
            "It happens in every browser and on my phone.",
            "The screen stays blank and the log shows a timeout.",
        ),
        TICKET_CLOSERS,
        {"part": ("dashboard", "settings page", "editor", "report screen", "calendar")},
        34,
    ),
    Topic(
        ("account", "login", "access", "ticket", "support", "profile", "security"),
        ("Cannot log in", "Password reset mail never arrives", "Change my email address", "Locked out of my profile"),
        (
            "I cannot log in to my account since {day}.",
            "The mail to reset my password never arrives.",
            "I want to change the email address of my profile.",
            "My account was locked after {number} wrong passwords.",
        ),
        (
            "The sign in page says that my user name is unknown.",
            "I have a new phone and lost the codes for the second factor.",
            "Please delete the old profile and keep the new user name.",
            "A colleague left and her login should belong to me now.",
        ),
        TICKET_CLOSERS,
        {},
        34,
    ),
    Topic(
        ("shipping", "delivery", "order", "ticket", "support", "logistics"),
        ("Parcel has not arrived", "Wrong item delivered", "Where is my order", "Package came damaged"),
        (
            "My parcel was due on {day} and has not arrived.",
            "The package came damaged and one item was missing.",
            "The courier delivered my order to the wrong address.",
            "The tracking number of my order shows no progress.",
        ),
        (
            "The box was open and wet when it came.",
            "The order was sent from {city} {number} days ago.",
            "The courier says that the street does not exist.",
            "I ordered {number} pieces and got one.",
        ),
        TICKET_CLOSERS,
        {},
        26,
    ),
    Topic(
        ("cancellation", "cancel", "refund", "return", "ticket", "support"),
        ("Cancel my subscription", "Refund for a returned item", "Stop the renewal"),
        (
            "I want to cancel my subscription before it renews in {month}.",
            "I returned the item {number} weeks ago and wait for the refund.",
            "Please stop the renewal and confirm the end of the contract.",
        ),
        (
            "I no longer need the service and would like to leave.",
            "The trial ended and I did not want to continue.",
            "Your page offers no way to unsubscribe.",
        ),
        TICKET_CLOSERS,
        {},
        22,
    ),
    Topic(
        ("feature", "request", "idea", "suggestion", "feedback", "ticket", "product"),
        ("Dark mode, please", "Idea for the calendar", "Wish: keyboard shortcuts"),
        (
            "It would be great if {product} had a dark mode.",
            "Could you add keyboard shortcuts to the editor?",
            "I suggest that the calendar shows the weeks as well.",
        ),
        (
            "Other tools have offered this for years.",
            "Our team would use such a feature every day.",
            "A simple option in the settings would be enough for us.",
        ),
        TICKET_CLOSERS,
        {},
        22,
    ),
)

REVIEWS = (
    Topic(
        ("positive", "good", "happy", "praise", "sentiment", "review", "yes", "true"),
        ("Love it", "Great product, friendly people", "Best purchase this year"),
        ("I love {product}, it is fast and a pleasure to use.", "Great service, the team was friendly and quick."),
        ("It works perfectly and saved us hours.", "Everything was easy and the quality is excellent."),
        ("I recommend it to everyone.", "Wonderful, thank you.", "Five stars from a happy customer."),
    ),
    Topic(
        ("negative", "bad", "angry", "complaint", "sentiment", "review", "no", "false"),
        ("Disappointed", "Terrible service", "Waste of money"),
        ("I am very disappointed with {product}.", "Terrible service, nobody answered and the quality is poor."),
        ("It broke after {number} days and was a waste of money.", "Everything was slow, confusing and annoying."),
        ("I would never buy it again.", "Avoid it, there are better ones.", "I hate it."),
    ),
    Topic(
        ("neutral", "average", "mixed", "sentiment", "review"),
        ("It is fine", "Does what it says"),
        ("{product} is okay, neither great nor bad.", "The product does what the page says."),
        ("Some parts are fine and others are average.", "It arrived on {day} and I use it sometimes."),
        ("We will see how it goes.", "It is an ordinary tool."),
    ),
    Topic(
        ("urgent", "high", "critical", "priority", "severity"),
        ("Urgent: everything is down", "Help needed immediately"),
        ("This is urgent, our whole company cannot work.", "All systems are down and we lose data every minute."),
        ("Hundreds of customers are affected right now.", "We need an answer immediately."),
        ("Call me at once.", "This cannot wait until {day}."),
    ),
    Topic(
        ("low", "minor", "priority", "severity", "trivial"),
        ("Small thing", "Typo on a page"),
        ("Just a small thing, there is a typo on the help page.", "No hurry, but one icon has an odd colour."),
        ("Nobody is blocked by this.", "It is only cosmetic and can wait."),
        ("Whenever you have time.", "There is no rush."),
    ),
)

NEWS_CLOSERS = (
    "It will be on sale from {month}.",
    "The price was not announced.",
    "{person} of {company} calls it a first step.",
    "Early users in {city} seem pleased.",
)

NEWS = (
    Topic(
        ("news", "hardware", "device", "product", "launch", "summary", "technology"),
        (
            "{company} shows a new {device}",
            "A {device} that lasts {number} days",
            "{company} brings its {device} to {city}",
        ),
        (
            "{company} has shown a new {device} with a longer battery life.",
            "The new {device} from {company} weighs less than an apple.",
        ),
        (
            "The battery lasts {number} days and charges in an hour.",
            "A brighter screen and a better camera are the main changes.",
            "The maker promises spare parts for {number} years.",
        ),
        NEWS_CLOSERS,
        {"device": ("phone", "watch", "laptop", "speaker", "tablet", "camera")},
    ),
    Topic(
        ("news", "software", "app", "product", "release", "summary", "technology"),
        ("{product} learns to {skill}", "{company} opens {product} to everyone", "New version of {product}"),
        (
            "{company} has released a new version of {product} that can {skill}.",
            "With its latest update {product} learns to {skill}.",
        ),
        (
            "The app now starts in half the time.",
            "The feature is free for schools and small teams.",
            "Private data stays on the device of the user.",
        ),
        NEWS_CLOSERS,
        {"skill": ("summarise long notes", "translate calls", "plan a week", "sort photos", "draft replies")},
    ),
    Topic(
        ("news", "business", "company", "market", "finance", "summary", "economy"),
        ("{company} grows in {city}", "{company} buys a rival", "Good quarter for {company}"),
        (
            "{company} sold more in this quarter than in the whole year before.",
            "{company} buys a smaller rival and opens an office in {city}.",
        ),
        (
            "Investors had expected less and the shares rose.",
            "The firm wants to hire {number} hundred people by {month}.",
            "Its chief, {person}, warned of higher costs.",
        ),
        ("Analysts stay careful.", "The deal needs the consent of the regulator.", "More will be known in {month}."),
    ),
)

TOPICS = (*JOBS, *TICKETS, *REVIEWS, *NEWS)
