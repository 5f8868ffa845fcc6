#!/usr/bin/env python3
"""Writes the conversations of examples/applications/customer_service.sh, with customers of the made-up shop Fennel & Fig:

    make_customer_service.py DIRECTORY

customer_service_{train,validation,test}.jsonl   {"messages"}, as gpt-finetune reads them
customer_service_choices.jsonl                   the first question of each test conversation with eight answers, one of which is
                                                 right, as gpt-evaluate choices reads them, in the form plain
Each intent has ten ways to be asked for. The last two are in the test alone, the one before them in the validation alone: what is
measured are sentences that nothing has learned. The same files every time.
"""
import json
import os
import random
import sys

PRODUCTS = ["kettle", "teapot", "oven dish", "garden chair", "bread knife", "wool blanket", "lamp", "copper pan",
            "watering can", "coffee mill", "rain barrel", "linen apron", "salad bowl", "bird house", "spice rack", "wine rack"]
CITIES = ["Leeds", "York", "Bath", "Derby", "Exeter", "Lincoln", "Oxford", "Chester", "Durham", "Norwich"]

# intent: (ways to ask, the answer, ways to go on, the answer to those)
INTENTS = {
    "order_status": ([
        "Where is my order {number}?", "When will order {number} arrive?", "I am waiting for order {number}.",
        "Can you tell me where order {number} is?", "Has order {number} been sent?", "Is my order {number} on its way?",
        "What is the state of order {number}?", "I have heard nothing of order {number}.",
        "Could you find out where order {number} is now?", "My order {number} is not here yet."],
        "Your order has left our store and will be with you in two days.",
        ["Can it come sooner?", "Is there a faster way?"], "I am sorry, it is with the carrier now."),
    "cancel": ([
        "I want to cancel order {number}.", "Please cancel order {number}.", "Can I still cancel order {number}?",
        "I do not want order {number} any more.", "Stop order {number}, please.", "How do I cancel my order {number}?",
        "Order {number} was a mistake, please cancel it.", "Could you cancel order {number} for me?",
        "Please stop my order {number}, I do not want it.", "I would like you to cancel my order {number}."],
        "Your order is cancelled. You will not be charged.",
        ["Are you sure?", "Will I get a note of this?"], "Yes, a letter to say so is on its way to you."),
    "address": ([
        "I have moved to {city}, can you change my address?", "Please send my order to {city} instead.",
        "How do I change my address to {city}?", "My new address is in {city}.", "I live in {city} now, not at the old address.",
        "Can my parcel go to {city}?", "I gave you the wrong address, it should be in {city}.",
        "Please change the address of my order to {city}.", "I moved, my address is now in {city}.",
        "Can you change where it goes to? I live in {city}."],
        "I have changed your address.",
        ["Does that cost more?", "Is it too late for my last order?"], "No, all your orders will go there at no cost."),
    "return": ([
        "I want to send the {product} back.", "How can I return the {product}?", "I do not like the {product}, can I return it?",
        "The {product} is not what I hoped for, I want to return it.", "Can I bring the {product} back?",
        "What must I do to return a {product}?", "I would like to return my {product}.", "May I send my {product} back to you?",
        "I do not want to keep the {product}, how do I return it?", "Can I still send a {product} back?"],
        "You may return it within thirty days. A label is in the box.",
        ["Must I pay for that?", "What does it cost to send it?"], "No, to send it back is free."),
    "refund": ([
        "When do I get my money back?", "Where is my refund?", "I sent the {product} back, where is my money?",
        "How long does a refund take?", "I have not got my money back for the {product}.", "When will you pay me back?",
        "Is my refund for the {product} on its way?", "My refund has not come yet.",
        "How long must I wait for my money for the {product}?", "I still wait for my refund."],
        "Your money will be with you within five days.",
        ["Where will it go to?", "How will you pay me?"], "It will go to the card that you paid with."),
    "damaged": ([
        "The {product} came broken.", "My {product} is broken.", "There is a crack in the {product}.",
        "The {product} was broken when I opened the box.", "You sent me a broken {product}.", "My new {product} has a hole in it.",
        "The {product} is in pieces.", "The {product} has a crack.",
        "I opened the box and found the {product} broken.", "My {product} came in pieces."],
        "I am sorry that it is broken. We will send you a new one today.",
        ["Do you want the broken one back?", "What shall I do with the old one?"], "Please keep it, or throw it away."),
    "missing": ([
        "The {product} was not in the box.", "There is no {product} in my parcel.", "My parcel came without the {product}.",
        "I did not get the {product} that I paid for.", "The {product} is missing.", "You forgot to send the {product}.",
        "I paid for a {product}, but it was not in the parcel.", "Where is the {product}? It was not with the rest.",
        "The parcel is here, but the {product} is missing.", "You forgot my {product}, it was not in the box."],
        "I am sorry that it was missing. It will be sent to you today.",
        ["Do I pay for that?", "Will that cost me something?"], "No, it is free."),
    "wrong": ([
        "I got a {product}, but I wanted another thing.", "You sent me a {product} by mistake.",
        "This is the wrong thing, I never asked for a {product}.", "I have the wrong parcel, there is a {product} in it.",
        "Why did you send me a {product}? I wanted something else.", "The {product} is not mine, you sent the wrong thing.",
        "I did not order a {product}.", "There was a {product} in my box that I did not order.",
        "You have sent the wrong thing, a {product}.", "I never ordered this {product}."],
        "I am sorry for our mistake. Please keep it, the right thing is on its way.",
        ["Must I send it back?", "May I give it to a friend?"], "Do with it as you like."),
    "hours": ([
        "When are you open?", "What are your hours?", "Are you open on Sunday?", "When does the shop in {city} close?",
        "At what hour do you open in {city}?", "Is the shop in {city} open today?", "How late are you open?",
        "Until when is the shop open?", "When can I come to the shop in {city}, are you open late?", "Are you open in {city} on Sunday?"],
        "Our shops are open from nine to six, but not on Sunday.",
        ["And on Saturday?", "Is that so on Saturday too?"], "On Saturday from ten to four."),
    "delivery_cost": ([
        "What does delivery cost?", "How much is delivery to {city}?", "Is delivery free?", "Do I pay for delivery?",
        "How much do you charge to send a {product}?", "What must I pay for delivery to {city}?", "Is there a charge for delivery?",
        "What is the price of delivery?", "How much must I pay for delivery of a {product}?", "Is delivery to {city} free?"],
        "Delivery costs four pounds, and is free from fifty pounds.",
        ["Can I fetch it myself?", "May I come for it myself?"], "Yes, from our shops, and that is free."),
    "delivery_time": ([
        "How long does delivery take?", "How many days does delivery to {city} take?", "How fast do you deliver?",
        "How soon can a {product} be here?", "When would a {product} be in {city}?", "How long must I wait for a {product}?",
        "How long until you can deliver to {city}?", "How quick is delivery?",
        "How many days must I wait if I order a {product} today?", "How fast can you deliver a {product} to {city}?"],
        "We deliver within three days.",
        ["Also on Saturday?", "Can you deliver on Saturday?"], "Yes, on Saturday too."),
    "payment": ([
        "How can I pay?", "Do you take cards?", "Can I pay by card?", "May I pay by bank transfer?", "Can I pay when it comes?",
        "What ways to pay are there?", "Do you take cash?", "Which cards do you take?",
        "In what ways may I pay?", "Can I pay by bank, or must it be a card?"],
        "You can pay by card, by bank transfer, and in our shops in cash.",
        ["Is it safe?", "Is my card safe with you?"], "Yes, we never keep your card."),
    "invoice": ([
        "I need a bill for order {number}.", "Can you send me the invoice of order {number}?", "Where is the invoice for order {number}?",
        "Please send me a bill for order {number}.", "I have lost the invoice of order {number}.",
        "There was no bill with order {number}.", "How do I get an invoice for order {number}?", "May I have an invoice for order {number}?",
        "Could you send the bill for order {number} again?", "I need the invoice of my order {number}."],
        "I have sent you the invoice by mail.",
        ["Can I have it on paper?", "Can you print it?"], "Yes, I will put it in the post."),
    "stock": ([
        "Do you have the {product}?", "Is the {product} in stock?", "Can I buy a {product} in {city}?",
        "Do you still sell the {product}?", "Have you got a {product} left?", "Is there a {product} in your shop in {city}?",
        "Are there any more of the {product}?", "When will the {product} be in stock?",
        "Have you a {product} in stock in {city}?", "Do you still have a {product} left?"],
        "Yes, it is in stock.",
        ["Can you keep one for me?", "Will you hold one for me?"], "Yes, we will keep one for you until Friday."),
    "warranty": ([
        "How long is the {product} under warranty?", "Is there a warranty on the {product}?", "My {product} has stopped working after a year.",
        "Does the {product} have a warranty?", "What is your warranty?", "Is my {product} still under warranty?",
        "I bought a {product} a year ago and it does not work any more.", "How many years of warranty has the {product}?",
        "What warranty is there on a {product}?", "My old {product} does not work any more, is there a warranty?"],
        "All we sell has a warranty of two years.",
        ["What do I need for that?", "What must I show you?"], "You need only the number of your order."),
    "gift": ([
        "Do you sell gift cards?", "Can I buy a gift card?", "How do I use my gift card?", "Where can I buy a gift card?",
        "I want to give a gift card to my mother.", "Is there a gift card of your shop?", "Can I pay with a gift card?",
        "My sister gave me a gift card, how does it work?", "I would like to buy a gift card for a friend.",
        "How does a gift card work?"],
        "You can buy gift cards in our shops, and use them for all we sell.",
        ["How long are they good?", "Do they end?"], "They are good for three years."),
    "discount": ([
        "My discount code does not work.", "Do you have a discount code?", "Where do I enter the discount code?",
        "The code for the discount is not taken.", "Is there a discount on the {product}?", "Can I have a discount?",
        "I have a code for ten percent, but it does not work.", "How do I use a discount code?",
        "Where can I put my discount code?", "Your shop does not take my discount code."],
        "Please enter the code SPRING on the last page, it takes ten percent off.",
        ["Is it for all things?", "Is that good for the {product} too?"], "Yes, for all that we sell."),
    "password": ([
        "I forgot my password.", "I cannot log in.", "How do I change my password?", "My password does not work.",
        "I can not get into my account.", "My account is locked.", "Please help me to log in.", "What can I do if I forgot my password?",
        "My account does not take my password.", "I cannot get in, I forgot the password of my account."],
        "I have sent you a mail with a link for a new password.",
        ["It has not come.", "I see no mail."], "Please look under spam, it may take an hour."),
    "newsletter": ([
        "I do not want your newsletter.", "Please stop sending me mail.", "How do I stop the newsletter?",
        "Take me off your mailing list.", "I get too much mail from you.", "I want no more newsletters.",
        "Remove me from the newsletter.", "Why do I get a newsletter from you?",
        "Please take me off the newsletter.", "Stop the newsletter, I get too much mail."],
        "You will get no more newsletters from us.",
        ["From today?", "When does it stop?"], "From tomorrow."),
    "human": ([
        "I want to talk to a person.", "Can I speak to someone?", "Is there someone who can help me?", "What is your phone number?",
        "Can somebody call me?", "How can I call you?", "Let me speak to a real person.", "I would like to speak to your boss.",
        "Can I talk to a real person?", "Is there a number that I can call?"],
        "You can call us from nine to six, our number is on every parcel.",
        ["Is that free?", "What does a call cost?"], "Yes, the call is free."),
}
GREETINGS = ["", "", "", "Hello. ", "Hi, a question. ", "Good day. ", "Dear shop, "]
ENDINGS = ["", "", "", " Thank you.", " Please help."]
THANKS = [("Thank you.", "You are welcome."), ("Thanks, that is all.", "You are welcome."), ("Good, thank you.", "You are welcome.")]


def conversation(random, intent, ways):
    questions, answer, more, second = INTENTS[intent]
    slots = {"number": random.randint(100, 999), "product": random.choice(PRODUCTS), "city": random.choice(CITIES)}
    way = random.choice(ways)
    question = random.choice(GREETINGS) + questions[way].format(**slots) + random.choice(ENDINGS)
    messages = [("user", question), ("assistant", answer.format(**slots))]
    if random.random() < 0.4:
        messages += [("user", random.choice(more).format(**slots)), ("assistant", second)]
    if random.random() < 0.25:
        said, replied = random.choice(THANKS)
        messages += [("user", said), ("assistant", replied)]
    return {"messages": [{"role": role, "content": content} for role, content in messages]}, slots


def write(path, objects):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for one in objects:
            file.write(json.dumps(one) + "\n")


def main(directory):
    rng = random.Random(1)
    parts = {"train": (30, range(7)), "validation": (4, [7]), "test": (6, [8, 9])}
    choices = []
    for part, (of_each, ways) in parts.items():
        rows, seen = [], set()
        for intent in INTENTS:
            found = 0
            while found < of_each:
                row, slots = conversation(rng, intent, list(ways))
                if json.dumps(row) in seen:
                    continue
                seen.add(json.dumps(row))
                rows.append(row)
                found += 1
                if part == "test":
                    others = rng.sample([i for i in INTENTS if i != intent], 7)
                    answers = [INTENTS[i][1].format(**slots) for i in [intent] + others]
                    rng.shuffle(answers)
                    question = row["messages"][0]["content"]
                    choices.append({"question": "user: " + question + "\nassistant:", "choices": answers,
                                    "answer": answers.index(row["messages"][1]["content"])})
        rng.shuffle(rows)
        write(os.path.join(directory, f"customer_service_{part}.jsonl"), rows)
    write(os.path.join(directory, "customer_service_choices.jsonl"), choices)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
