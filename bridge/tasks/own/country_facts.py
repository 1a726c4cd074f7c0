"""In which country is this city? "Madrid is located in" -> " Spain", against " the".

The facts are common knowledge, written down here; the first city of a country is its
capital. Distractors are other countries; how the answer fares against " the" is measured
for every task (bridge.scoring).
"""

import random

from truncated_weights.bridge.tasks.example import Encode, Example, Task, only_single_tokens

TEMPLATES = (
    "{} is located in",
    "The city of {} is in",
    "{} is a city in",
)
NUM_DISTRACTORS = 5

# Underscores stand for spaces inside a name.
_TABLE = """
    Spain: Madrid Barcelona Valencia Seville Zaragoza Bilbao
    France: Paris Lyon Marseille Toulouse Nantes Bordeaux Lille Strasbourg
    Germany: Berlin Hamburg Munich Cologne Frankfurt Stuttgart Dresden Leipzig
    Italy: Rome Milan Naples Turin Florence Venice Bologna Palermo
    Portugal: Lisbon Porto Braga Coimbra
    England: London Manchester Liverpool Birmingham Leeds Bristol
    Scotland: Edinburgh Glasgow Aberdeen Dundee
    Ireland: Dublin Cork Galway Limerick
    Belgium: Brussels Antwerp Ghent Bruges
    Netherlands: Amsterdam Rotterdam Utrecht Eindhoven
    Switzerland: Bern Zurich Geneva Basel Lausanne
    Austria: Vienna Graz Linz Salzburg Innsbruck
    Denmark: Copenhagen Aarhus Odense Aalborg
    Sweden: Stockholm Gothenburg Uppsala Malmo
    Norway: Oslo Bergen Trondheim Stavanger
    Finland: Helsinki Tampere Turku Oulu
    Iceland: Reykjavik
    Poland: Warsaw Krakow Gdansk Wroclaw Poznan
    Hungary: Budapest Debrecen Szeged
    Romania: Bucharest Cluj Timisoara
    Bulgaria: Sofia Plovdiv Varna
    Serbia: Belgrade
    Croatia: Zagreb Split Dubrovnik
    Slovenia: Ljubljana Maribor
    Slovakia: Bratislava
    Greece: Athens Thessaloniki Patras
    Turkey: Ankara Istanbul Izmir Antalya Bursa
    Ukraine: Kiev Odessa Kharkiv Lviv
    Russia: Moscow Kazan Novosibirsk Vladivostok Samara
    Latvia: Riga
    Lithuania: Vilnius Kaunas
    Estonia: Tallinn Tartu
    Egypt: Cairo Alexandria Luxor Giza
    Morocco: Rabat Casablanca Marrakesh Fez
    Tunisia: Tunis
    Algeria: Algiers Oran
    Libya: Tripoli Benghazi
    Nigeria: Abuja Lagos Ibadan Kano
    Ghana: Accra Kumasi
    Senegal: Dakar
    Kenya: Nairobi Mombasa
    Ethiopia: Addis_Ababa
    Tanzania: Dodoma Arusha
    Uganda: Kampala
    Zimbabwe: Harare Bulawayo
    Sudan: Khartoum
    Israel: Haifa Tel_Aviv
    Lebanon: Beirut
    Syria: Damascus Aleppo Homs
    Jordan: Amman
    Iraq: Baghdad Mosul Basra
    Iran: Tehran Shiraz Isfahan Tabriz
    Afghanistan: Kabul Kandahar Herat
    Pakistan: Islamabad Karachi Lahore Peshawar
    India: Delhi Mumbai Kolkata Chennai Bangalore Hyderabad Jaipur
    Bangladesh: Dhaka Chittagong
    Nepal: Kathmandu Pokhara
    China: Beijing Shanghai Guangzhou Wuhan Chengdu Nanjing Xian
    Japan: Tokyo Osaka Kyoto Nagoya Sapporo Hiroshima Fukuoka
    Korea: Seoul Busan Incheon Pyongyang
    Taiwan: Taipei Kaohsiung
    Vietnam: Hanoi Hue Danang
    Thailand: Bangkok Phuket
    Cambodia: Phnom_Penh
    Malaysia: Kuala_Lumpur Penang
    Indonesia: Jakarta Surabaya Bandung
    Philippines: Manila Cebu Davao
    Australia: Canberra Sydney Melbourne Brisbane Perth Adelaide
    Canada: Ottawa Toronto Montreal Vancouver Calgary Winnipeg
    Mexico: Mexico_City Guadalajara Monterrey Tijuana
    Cuba: Havana
    Jamaica: Kingston
    Colombia: Bogota Medellin Cali Cartagena
    Venezuela: Caracas Maracaibo
    Peru: Lima Cusco Arequipa
    Chile: Santiago Valparaiso
    Argentina: Buenos_Aires Cordoba Rosario Mendoza
    Brazil: Brasilia Rio_de_Janeiro Sao_Paulo Salvador Recife
    Uruguay: Montevideo
"""
CITIES: dict[str, tuple[str, ...]] = {
    country.strip(): tuple(city.replace("_", " ") for city in cities.split())
    for country, cities in (line.split(":") for line in _TABLE.strip().splitlines())
}
"""The cities of each country."""


def load(encode: Encode, *, count: int | None = None, seed: int = 0) -> Task:
    """One prompt per city, templates in turn, in random order; `count` of them or all.

    Countries that are not one token are dropped and reported. covariates: capital is 1
    for a country's capital.
    """
    rng = random.Random(f"country_facts/{seed}")
    facts = [
        (country, city, city == cities[0])
        for country, cities in CITIES.items()
        for city in cities
        # A prompt that holds its own answer asks for a copy, not for a fact.
        if country not in city
    ]
    rng.shuffle(facts)
    examples = []
    for number, (country, city, capital) in enumerate(facts):
        wrong = rng.sample([other for other in CITIES if other != country], NUM_DISTRACTORS)
        examples.append(
            Example(
                TEMPLATES[number % len(TEMPLATES)].format(city),
                f" {country}",
                tuple(f" {other}" for other in wrong),
                group=country,
                covariates={"capital": float(capital)},
            )
        )
    task = only_single_tokens(examples, encode, name="country_facts")
    return Task(task.name, task.examples[:count], task.dropped)
