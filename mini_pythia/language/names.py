"""First names, and the words the stories are told with."""

from truncated_weights.mini_pythia.language.words import words

NAMES = words("""
    Anna Omar Peter Lucy David Maria Simon Clara Felix Nadia Oscar Helen Victor Irene Hugo Julia
    Boris Alice Martin Sofia Jonas Emma Karim Laura Leon Greta Samir Nina Paul Rosa Igor Ingrid
    Adam Sarah Marco Diana Anton Elena Yusuf Carmen Walter Ruth Pablo Irma Stefan Olga Henry Amina
    Robert Tanja Miguel Frida George Hanna Erik Paula Thomas Leila Bruno Vera Daniel Monica Ahmed
    Agnes Philip Teresa Kenji Judith Oliver Lina Ivan Martha Jacob Selma Edward Yuki Roman Gloria
    Frank Naomi Tariq Esther Louis Petra Arthur Zoe Rafael Edith Conrad Mina Albert Fiona Dmitri
    Sandra Gustav Bianca
    """)
"""96 given names, all equally frequent."""

MEETING_PLACES = words("""
    market station library park school theatre museum bakery harbour garden church castle
    hospital hotel beach farm bridge workshop
    """)

GIFTS = words("""
    basket ring book letter lamp kite bottle coat drum candle ticket map clock chair flute
    blanket ladder hammer pencil cake
    """)

GIVING_VERBS = words("gave handed offered passed sent lent showed sold brought lost")

STRANGERS = words("""
    baker farmer doctor teacher sailor painter judge soldier porter nurse gardener miller guard
    tailor singer poet
    """)
"""Who receives the gift when the story does not name anybody: "to the baker"."""
