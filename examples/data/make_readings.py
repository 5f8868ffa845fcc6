#!/usr/bin/env python3
"""Writes the readers of a made-up library for examples/applications/recommendation.sh:

    make_readings.py DIRECTORY

readings_{train,validation,test}.jsonl   {"text": "title; title; title;"}: what a reader borrowed, in this order; every part has readers of
                                         its own. gpt-finetune learns them as they are, gpt-recommend hides the last title
books.txt                                all titles, one a line

A reader likes one kind of book much and another one a little, and now and then takes what everybody takes. Whoever has read a part of a
series often goes on with the next. Some books of a kind are read far more than others. The same files every time.
"""
import json
import os
import random
import sys

# The first three of each kind are a series, which is read from its first part on.
KINDS = {
    "ghosts": ["The Ghost of the Tower", "The Ghost in the Garden", "The Ghost at Sea", "A Night in the Old House", "Cold Hands",
               "The Dead Do Speak", "Who Knocks"],
    "kings": ["The Young King", "The King in Chains", "The Last King", "Sword and Crown", "A Queen of the North", "The Siege",
              "Blood of the House"],
    "love": ["Her First Letter", "Her Second Letter", "Her Last Letter", "A Kiss in May", "The Wedding Ring", "Sweet Julia",
             "Two Hearts"],
    "murder": ["Death of a Doctor", "Death of a Lawyer", "Death of a Judge", "The Knife", "Poison for Two", "A Murder in Town",
               "The Silent Witness"],
    "sea": ["The Captain's Son", "The Captain's War", "The Captain's Grave", "Storm", "Beyond the Island", "Ship without a Name",
            "The Deep"],
    "stars": ["Children of the Moon", "Children of the Sun", "Children of the Stars", "The Iron Man", "A World too Far", "The Last Ship to Mars",
              "Time and Again"],
    "cooking": ["Bread for All", "Soup for All", "Cake for All", "The Good Table", "Wine and Cheese", "My Mother's Kitchen",
                "Fish"],
    "garden": ["Roses in Spring", "Roses in Summer", "Roses in Winter", "A Year of Green", "The Apple Tree", "Bees and Honey",
               "Under the Oak"],
}
KIND_OF = {title: kind for kind, titles in KINDS.items() for title in titles}
TITLES = list(KIND_OF)


def reader(rng):
    likes, also = rng.sample(list(KINDS), 2)
    read = []
    favour = {title: 1 / (1 + place) ** 0.7 for place, title in enumerate(TITLES_BY_FAME)}
    for _ in range(rng.randint(6, 10)):
        if read:
            titles = KINDS[KIND_OF[read[-1]]]
            part = titles.index(read[-1])
            if part < 2 and titles[part + 1] not in read and rng.random() < 0.7:
                read.append(titles[part + 1])
                continue
        chance = rng.random()
        shelf = KINDS[likes] if chance < 0.65 else KINDS[also] if chance < 0.88 else TITLES
        left = [t for t in shelf if t not in read and (KINDS[KIND_OF[t]].index(t) not in (1, 2))]
        if not left:
            left = [t for t in TITLES if t not in read and (KINDS[KIND_OF[t]].index(t) not in (1, 2))]
        read.append(rng.choices(left, [favour[t] for t in left])[0])
    return read


TITLES_BY_FAME = TITLES[:]
random.Random(3).shuffle(TITLES_BY_FAME)


def main(directory):
    rng = random.Random(2)
    for part, readers in (("train", 700), ("validation", 100), ("test", 200)):
        with open(os.path.join(directory, f"readings_{part}.jsonl"), "w", encoding="utf-8", newline="\n") as file:
            for _ in range(readers):
                file.write(json.dumps({"text": " ".join(title + ";" for title in reader(rng))}) + "\n")
    with open(os.path.join(directory, "books.txt"), "w", encoding="utf-8", newline="\n") as file:
        file.write("".join(title + "\n" for title in TITLES))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
