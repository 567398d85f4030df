"""States, provinces and regions of the countries so long or wide that the country alone says little.

Codes and names are those of ISO 3166-2, with English names where people use them; the coordinate is where
the people are: the mean of the towns on the sphere, weighted by population (GeoNames, towns of 500
people and more, CC BY 4.0, as of 2026-11). So Oregon is near Portland and Quebec near Montréal.

Data only; `dumont.domain.locations` reads it.
"""

from __future__ import annotations

from typing import NamedTuple


class Subdivision(NamedTuple):
    """One subdivision of a country."""

    code: str
    """ISO 3166-2, such as `US-OR`."""
    country: str
    latitude: float
    longitude: float
    names: tuple[str, ...]
    """As people write it; the first one is for display."""


# A country's rows: code, names parted by "=", latitude, longitude.
_ROWS: dict[str, str] = {
    "US": """
        AK Alaska 61.47 -149.04; AL Alabama 33.04 -86.73; AR Arkansas 35.20 -92.67;
        AZ Arizona 33.35 -111.91; CA California 35.34 -119.24; CO Colorado 39.58 -105.14;
        CT Connecticut 41.46 -72.92;
        DC District of Columbia=Washington DC=Washington D.C. 38.90 -77.03;
        DE Delaware 39.42 -75.58; FL Florida 27.66 -81.49; GA Georgia 33.28 -83.86;
        HI Hawaii 21.23 -157.68; IA Iowa 41.94 -93.00; ID Idaho 44.17 -115.30;
        IL Illinois 41.47 -88.22; IN Indiana 40.20 -86.27; KS Kansas 38.49 -96.34;
        KY Kentucky 38.06 -85.10; LA Louisiana 30.59 -91.34; MA Massachusetts 42.29 -71.31;
        MD Maryland 39.15 -76.79; ME Maine 44.24 -69.78; MI Michigan 42.74 -83.99;
        MN Minnesota 45.09 -93.45; MO Missouri 38.57 -92.30; MS Mississippi 32.43 -89.59;
        MT Montana 46.71 -111.10; NC North Carolina 35.54 -79.60; ND North Dakota 47.34 -99.28;
        NE Nebraska 41.16 -97.09; NH New Hampshire 43.14 -71.44; NJ New Jersey 40.48 -74.39;
        NM New Mexico 34.67 -106.35; NV Nevada 36.97 -116.10; NY New York 41.02 -74.19;
        OH Ohio 40.51 -82.77; OK Oklahoma 35.63 -96.97; OR Oregon 44.85 -122.64;
        PA Pennsylvania 40.36 -76.60; RI Rhode Island 41.75 -71.45;
        SC South Carolina 33.87 -80.92; SD South Dakota 44.00 -98.95; TN Tennessee 35.70 -87.16;
        TX Texas 31.00 -97.51; UT Utah 40.45 -111.95; VA Virginia 37.78 -77.44;
        VT Vermont 44.08 -72.85; WA Washington 47.31 -121.57; WI Wisconsin 43.55 -88.84;
        WV West Virginia 38.91 -80.91; WY Wyoming 42.60 -106.91;
    """,
    "CA": """
        AB Alberta 52.20 -113.79; BC British Columbia 49.37 -122.70; MB Manitoba 50.05 -97.43;
        NB New Brunswick 46.15 -65.76; NL Newfoundland and Labrador=Newfoundland 48.17 -54.14;
        NS Nova Scotia 44.93 -63.18; NT Northwest Territories 63.28 -117.70;
        NU Nunavut 66.14 -83.31; ON Ontario 44.01 -79.40; PE Prince Edward Island 46.27 -63.18;
        QC Quebec=Québec 46.01 -73.10; SK Saskatchewan 51.59 -105.89;
        YT Yukon=Yukon Territory 60.89 -134.87;
    """,
    "MX": """
        AGU Aguascalientes 21.94 -102.30; BCN Baja California 32.40 -116.44;
        BCS Baja California Sur 23.84 -110.36; CAM Campeche 19.32 -90.86;
        CHH Chihuahua 29.92 -106.31; CHP Chiapas 16.33 -92.65;
        CMX Ciudad de México=Mexico City 19.41 -99.13;
        COA Coahuila de Zaragoza=Coahuila 26.38 -101.92; COL Colima 19.16 -103.93;
        DUR Durango 24.68 -104.26; GRO Guerrero 17.42 -99.67; GUA Guanajuato 20.82 -101.30;
        HID Hidalgo 20.25 -98.84; JAL Jalisco 20.61 -103.38;
        MEX México=State of Mexico 19.49 -99.23; MIC Michoacán de Ocampo=Michoacán 19.54 -101.69;
        MOR Morelos 18.83 -99.12; NAY Nayarit 21.49 -105.02; NLE Nuevo León 25.69 -100.25;
        OAX Oaxaca 16.99 -96.47; PUE Puebla 19.13 -98.00; QUE Querétaro 20.59 -100.30;
        ROO Quintana Roo 20.57 -87.23; SIN Sinaloa 24.76 -107.61;
        SLP San Luis Potosí 22.17 -100.42; SON Sonora 29.24 -110.90; TAB Tabasco 18.01 -92.93;
        TAM Tamaulipas 24.84 -98.37; TLA Tlaxcala 19.33 -98.18;
        VER Veracruz de Ignacio de la Llave=Veracruz 19.28 -96.46; YUC Yucatán 20.89 -89.40;
        ZAC Zacatecas 22.87 -102.69;
    """,
    "BR": """
        AC Acre -9.46 -69.07; AL Alagoas -9.61 -36.24; AM Amazonas -3.52 -61.27;
        AP Amapá 0.23 -51.20; BA Bahia -12.88 -39.88; CE Ceará -4.49 -39.16;
        DF Distrito Federal=Federal District -15.80 -47.95; ES Espírito Santo -20.04 -40.53;
        GO Goiás -16.50 -49.18; MA Maranhão -3.97 -44.76; MG Minas Gerais -19.70 -44.40;
        MS Mato Grosso do Sul -20.93 -54.62; MT Mato Grosso -14.26 -55.82; PA Pará -2.63 -49.59;
        PB Paraíba -7.08 -35.99; PE Pernambuco -8.21 -36.08; PI Piauí -5.81 -42.47;
        PR Paraná -24.74 -51.05; RJ Rio de Janeiro -22.71 -43.09;
        RN Rio Grande do Norte -5.83 -36.01; RO Rondônia -10.39 -62.78; RR Roraima 2.73 -60.66;
        RS Rio Grande do Sul -29.64 -52.12; SC Santa Catarina -27.28 -49.65;
        SE Sergipe -10.79 -37.28; SP São Paulo -23.13 -47.12; TO Tocantins -9.36 -48.32;
    """,
    "AU": """
        ACT Australian Capital Territory -35.30 149.11; NSW New South Wales -33.61 151.09;
        NT Northern Territory -14.23 131.55; QLD Queensland -26.28 152.12;
        SA South Australia -34.88 138.60; TAS Tasmania -42.26 147.09; VIC Victoria -37.77 144.94;
        WA Western Australia -31.71 116.07;
    """,
    "GB": """
        ENG England 52.26 -1.05; NIR Northern Ireland 54.65 -6.29; SCT Scotland 56.13 -3.72;
        WLS Wales 51.94 -3.50;
    """,
    "DE": """
        BB Brandenburg 52.38 13.48; BE Berlin 52.51 13.41; BW Baden-Württemberg 48.64 8.96;
        BY Bayern=Bavaria 48.82 11.35; HB Bremen 53.16 8.76; HE Hessen=Hesse 50.32 8.79;
        HH Hamburg 53.56 10.01;
        MV Mecklenburg-Vorpommern=Mecklenburg-Western Pomerania 53.85 12.41;
        NI Niedersachsen=Lower Saxony 52.62 9.31;
        NW Nordrhein-Westfalen=North Rhine-Westphalia 51.37 7.24;
        RP Rheinland-Pfalz=Rhineland-Palatinate 49.87 7.73; SH Schleswig-Holstein 54.08 9.99;
        SL Saarland 49.33 6.98; SN Sachsen=Saxony 51.03 13.18;
        ST Sachsen-Anhalt=Saxony-Anhalt 51.84 11.76; TH Thüringen=Thuringia 50.91 11.17;
    """,
    "FR": """
        20R Corse=Corsica 42.23 9.14; ARA Auvergne-Rhône-Alpes 45.64 4.86;
        BFC Bourgogne-Franche-Comté 47.21 5.11; BRE Bretagne=Brittany 48.18 -2.90;
        CVL Centre-Val de Loire 47.63 1.56; GES Grand-Est 48.71 6.29;
        HDF Hauts-de-France 50.29 2.82; IDF Île-de-France=Ile de France 48.84 2.35;
        NAQ Nouvelle-Aquitaine 45.11 -0.15; NOR Normandie=Normandy 49.28 0.23;
        OCC Occitanie 43.59 2.51;
        PAC Provence-Alpes-Côte-d’Azur=Provence-Alpes-Côte-d'Azur 43.50 5.84;
        PDL Pays-de-la-Loire 47.37 -1.05;
    """,
    "ES": """
        AN Andalucía=Andalusia 37.13 -4.85; AR Aragón=Aragon 41.62 -0.81; AS Asturias 43.43 -5.80;
        CB Cantabria 43.39 -3.83; CE Ceuta 35.89 -5.32;
        CL Castilla y León=Castile and León 41.77 -4.87;
        CM Castilla-La Mancha=Castille-La Mancha 39.54 -3.20;
        CN Canarias=Canary Islands 28.28 -15.73; CT Catalunya=Catalonia 41.46 2.07;
        EX Extremadura 39.12 -6.31; GA Galicia 42.78 -8.34;
        IB Illes Balears=Balearic Islands 39.56 2.76; MC Murcia 37.89 -1.20;
        MD Madrid 40.42 -3.70; ML Melilla 35.29 -2.94; NC Navarra=Navarre 42.68 -1.69;
        PV País Vasco=Basque Country 43.22 -2.63; RI La Rioja 42.41 -2.40;
        VC Valenciana=Valencia 39.09 -0.42;
    """,
    "IT": """
        21 Piemonte=Piedmont 45.10 7.85; 23 Valle d'Aosta=Aosta Valley 45.73 7.42;
        25 Lombardia=Lombardy 45.55 9.43; 32 Trentino-Alto Adige 46.33 11.24;
        34 Veneto 45.53 11.80; 36 Friuli Venezia Giulia 45.93 13.22; 42 Liguria 44.26 8.84;
        45 Emilia-Romagna 44.56 11.25; 52 Toscana=Tuscany 43.66 10.93; 55 Umbria 42.96 12.48;
        57 Marche 43.43 13.35; 62 Lazio=Latium 41.85 12.62; 65 Abruzzo 42.35 14.01;
        67 Molise 41.70 14.64; 72 Campania 40.86 14.42; 75 Puglia=Apulia 40.85 17.00;
        77 Basilicata 40.56 16.11; 78 Calabria 38.89 16.26; 82 Sicilia=Sicily 37.67 14.23;
        88 Sardegna=Sardinia 39.94 8.96;
    """,
    "NL": """
        DR Drenthe 52.85 6.65; FL Flevoland 52.48 5.44; FR Fryslân=Friesland 53.12 5.86;
        GE Gelderland 52.04 5.89; GR Groningen 53.20 6.67; LI Limburg 51.09 5.92;
        NB Noord-Brabant=North Brabant 51.56 5.18; NH Noord-Holland=North Holland 52.45 4.85;
        OV Overijssel 52.38 6.49; UT Utrecht 52.09 5.18; ZE Zeeland=Zealand 51.46 3.76;
        ZH Zuid-Holland=South Holland 51.98 4.47;
    """,
    "PL": """
        02 Dolnośląskie=Lower Silesia 51.07 16.69; 04 Kujawsko-Pomorskie 53.06 18.42;
        06 Lubelskie=Lublin 51.23 22.75; 08 Lubuskie 52.15 15.36; 10 Łódzkie=Łódź 51.69 19.46;
        12 Małopolskie=Lesser Poland 49.96 20.03; 14 Mazowieckie=Mazovia 52.22 21.01;
        16 Opolskie 50.59 17.89; 18 Podkarpackie 50.04 22.05; 20 Podlaskie 53.24 22.94;
        22 Pomorskie=Pomerania 54.33 18.41; 24 Śląskie=Silesia 50.22 18.92;
        26 Świętokrzyskie 50.86 20.85; 28 Warmińsko-Mazurskie 53.88 20.62;
        30 Wielkopolskie=Greater Poland 52.29 17.22;
        32 Zachodniopomorskie=West Pomerania 53.60 15.15;
    """,
    "SE": """
        AB Stockholms län=Stockholm 59.34 18.04; AC Västerbottens län=Västerbotten 64.17 20.17;
        BD Norrbottens län=Norrbotten 65.96 21.72; C Uppsala län 59.89 17.60;
        D Södermanlands län=Södermanland 59.10 16.72;
        E Östergötlands län=Östergötland 58.47 15.72; F Jönköpings län=Jönköping 57.65 14.28;
        G Kronobergs län=Kronoberg 56.83 14.61; H Kalmar län 57.04 16.28;
        I Gotlands län=Gotland 57.61 18.34; K Blekinge län 56.17 15.26;
        M Skåne län=Scania 55.79 13.17; N Hallands län=Halland 56.95 12.56;
        O Västra Götalands län=Västra Götaland 57.90 12.30; S Värmlands län=Värmland 59.48 13.40;
        T Örebro län 59.29 15.08; U Västmanlands län=Västmanland 59.65 16.37;
        W Dalarnas län=Dalarna 60.54 15.32; X Gävleborgs län=Gävleborg 61.00 16.87;
        Y Västernorrlands län=Västernorrland 62.69 17.63; Z Jämtlands län=Jämtland 63.19 14.58;
    """,
    "NO": """
        03 Oslo 59.91 10.75; 11 Rogaland 58.97 5.68; 15 Møre og Romsdal 62.62 6.74;
        18 Nordland 67.37 14.58; 31 Østfold 59.31 10.99; 32 Akershus 59.92 10.86;
        33 Buskerud 59.84 10.05; 34 Innlandet 60.92 10.84; 39 Vestfold 59.23 10.30;
        40 Telemark 59.24 9.47; 42 Agder 58.25 8.04; 46 Vestland 60.49 5.50;
        50 Trøndelag=Trondelag 63.51 10.60; 55 Troms 69.41 18.39; 56 Finnmark 70.24 25.65;
    """,
    "FI": """
        02 Etelä-Karjala=South Karelia 61.11 28.34;
        03 Etelä-Pohjanmaa=South Ostrobothnia 62.80 22.92;
        04 Etelä-Savo=South Savo=Southern Savo 61.83 27.77; 05 Kainuu 64.31 28.10;
        06 Kanta-Häme=Tavastia Proper 60.90 24.42;
        07 Keski-Pohjanmaa=Central Ostrobothnia 63.79 23.40;
        08 Keski-Suomi=Central Finland 62.31 25.63; 09 Kymenlaakso 60.67 26.85;
        10 Lappi=Lapland 66.61 25.51; 11 Pirkanmaa 61.49 23.74;
        12 Pohjanmaa=Ostrobothnia 63.19 21.97; 13 Pohjois-Karjala=North Karelia 62.68 29.75;
        14 Pohjois-Pohjanmaa=North Ostrobothnia=Northern Ostrobothnia 64.90 25.47;
        15 Pohjois-Savo=North Savo=Northern Savo 62.96 27.59;
        16 Päijät-Häme=Päijänne Tavastia 61.02 25.68; 17 Satakunta 61.38 21.92;
        18 Uusimaa 60.24 24.90; 19 Varsinais-Suomi=Southwest Finland=Finland Proper 60.47 22.38;
    """,
    "RU": """
        AD Adygeya 44.75 39.83; AL Altay 51.52 86.28; ALT Altayskiy kray=Altai Krai 52.90 83.20;
        AMU Amurskaya oblast'=Amur 51.18 127.72;
        ARK Arkhangel'skaya oblast'=Arkhangelsk 63.64 41.53;
        AST Astrakhanskaya oblast'=Astrakhan 46.63 47.75; BA Bashkortostan 54.41 55.84;
        BEL Belgorodskaya oblast'=Belgorod 50.79 37.19;
        BRY Bryanskaya oblast'=Bryansk 53.09 33.75; BU Buryatiya=Buryatia 52.06 107.63;
        CE Chechenskaya Respublika=Chechnya 43.28 45.73;
        CHE Chelyabinskaya oblast'=Chelyabinsk 54.86 60.54;
        CHU Chukotskiy avtonomnyy okrug=Chukotka 66.21 177.18;
        CU Chuvashskaya Respublika=Chuvashia 55.94 47.23; DA Dagestan 42.84 47.36;
        IN Ingushetiya 43.31 44.80; IRK Irkutskaya oblast'=Irkutsk 53.97 103.33;
        IVA Ivanovskaya oblast'=Ivanovo 57.06 41.31; KAM Kamchatskiy kray=Kamchatka 53.58 158.82;
        KB Kabardino-Balkarskaya Respublika 43.56 43.64;
        KC Karachayevo-Cherkesskaya Respublika 44.06 41.94;
        KDA Krasnodarskiy kray=Krasnodar 45.01 39.26;
        KEM Kemerovskaya oblast'=Kemerovo 54.56 86.62;
        KGD Kaliningradskaya oblast'=Kaliningrad 54.73 20.75;
        KGN Kurganskaya oblast'=Kurgan 55.55 64.82; KHA Khabarovskiy kray=Khabarovsk 49.37 136.11;
        KHM Khanty-Mansiyskiy avtonomnyy okrug=Khanty-Mansi 61.36 72.44;
        KIR Kirovskaya oblast'=Kirov 58.43 49.81; KK Khakasiya=Khakassia 53.59 91.16;
        KL Kalmykiya 46.34 44.36; KLU Kaluzhskaya oblast'=Kaluga 54.60 36.05; KO Komi 63.60 54.03;
        KOS Kostromskaya oblast'=Kostroma 57.98 41.96; KR Kareliya=Karelia 62.47 33.65;
        KRS Kurskaya oblast'=Kursk 51.78 36.00; KYA Krasnoyarskiy kray=Krasnoyarsk 57.53 92.59;
        LEN Leningradskaya oblast'=Leningrad 59.93 30.50;
        LIP Lipetskaya oblast'=Lipetsk 52.61 39.37; MAG Magadanskaya oblast'=Magadan 60.35 150.86;
        ME Mariy El 56.51 48.01; MO Mordoviya 54.22 44.88;
        MOS Moskovskaya oblast'=Moscow Oblast 55.71 37.83; MOW Moskva=Moscow 55.74 37.61;
        MUR Murmanskaya oblast'=Murmansk 68.52 32.98; NEN Nenetskiy avtonomnyy okrug 67.66 53.00;
        NGR Novgorodskaya oblast'=Novgorod 58.44 32.06;
        NIZ Nizhegorodskaya oblast'=Nizhny Novgorod 56.17 43.88;
        NVS Novosibirskaya oblast'=Novosibirsk 54.99 82.47; OMS Omskaya oblast'=Omsk 55.09 73.35;
        ORE Orenburgskaya oblast'=Orenburg 51.92 55.80; ORL Orlovskaya oblast'=Oryol 52.91 36.32;
        PER Permskiy kray=Perm 58.20 56.33; PNZ Penzenskaya oblast'=Penza 53.18 45.11;
        PRI Primorskiy kray=Primorye=Primorsky Krai 43.59 132.50;
        PSK Pskovskaya oblast'=Pskov 57.27 29.07; ROS Rostovskaya oblast'=Rostov 47.45 40.12;
        RYA Ryazanskaya oblast'=Ryazan 54.51 40.00; SA Saha=Sakha=Yakutia 61.98 126.42;
        SAK Sakhalinskaya oblast'=Sakhalin 47.87 142.78;
        SAM Samarskaya oblast'=Samara 53.31 49.86; SAR Saratovskaya oblast'=Saratov 51.65 46.19;
        SE Severnaya Osetiya 43.15 44.59; SMO Smolenskaya oblast'=Smolensk 54.82 32.68;
        SPE Sankt-Peterburg=Saint Petersburg=St.-Petersburg=St Petersburg 59.94 30.31;
        STA Stavropol'skiy kray=Stavropol 44.64 42.78;
        SVE Sverdlovskaya oblast'=Sverdlovsk 57.34 60.73; TA Tatarstan 55.59 50.66;
        TAM Tambovskaya oblast'=Tambov 52.73 41.43; TOM Tomskaya oblast'=Tomsk 56.92 84.48;
        TUL Tul'skaya oblast'=Tula 54.07 37.73; TVE Tverskaya oblast'=Tver 57.00 35.42;
        TY Tyva=Tuva 51.50 93.69; TYU Tyumenskaya oblast'=Tyumen 57.15 66.38;
        UD Udmurtskaya Respublika=Udmurtia 56.97 53.18;
        ULY Ul'yanovskaya oblast'=Ulyanovsk 54.21 48.40;
        VGG Volgogradskaya oblast'=Volgograd 49.09 44.44;
        VLA Vladimirskaya oblast'=Vladimir 56.09 40.56;
        VLG Vologodskaya oblast'=Vologda 59.39 39.36;
        VOR Voronezhskaya oblast'=Voronezh 51.41 39.56;
        YAN Yamalo-Nenetskiy avtonomnyy okrug=Yamalo-Nenets 65.18 73.86;
        YAR Yaroslavskaya oblast'=Yaroslavl 57.68 39.52;
        YEV Yevreyskaya avtonomnaya oblast'=Jewish Autonomous Oblast 48.70 132.80;
        ZAB Zabaykal'skiy kray=Zabaykalsky Krai=Transbaikal 51.71 114.64;
    """,
    "CN": """
        AH Anhui Sheng 32.20 117.20; BJ Beijing Shi 39.91 116.39; CQ Chongqing Shi 29.89 107.19;
        FJ Fujian Sheng 25.37 118.53; GD Guangdong Sheng 22.90 113.75;
        GS Gansu Sheng 35.75 104.49; GX Guangxi Zhuangzu Zizhiqu=Guangxi 23.27 109.23;
        GZ Guizhou Sheng 26.78 106.40; HA Henan Sheng 34.31 113.74; HB Hubei Sheng 30.97 113.23;
        HE Hebei Sheng 38.74 115.98; HI Hainan Sheng 19.47 110.03;
        HL Heilongjiang Sheng 46.60 127.29; HN Hunan Sheng 27.90 112.32;
        JL Jilin Sheng 43.63 125.87; JS Jiangsu Sheng 32.48 119.50; JX Jiangxi Sheng 27.99 115.72;
        LN Liaoning Sheng 40.89 122.60; NM Nei Mongol Zizhiqu=Inner Mongolia 41.82 111.87;
        NX Ningxia Huizu Zizhiqu=Ningxia 38.05 106.14; QH Qinghai Sheng 36.45 101.21;
        SC Sichuan Sheng 30.43 104.74; SD Shandong Sheng 36.34 118.69;
        SH Shanghai Shi 31.22 121.43; SN Shaanxi Sheng 34.23 108.74; SX Shanxi Sheng 37.50 112.25;
        TJ Tianjin Shi 39.15 117.21; XJ Xinjiang Uygur Zizhiqu=Xinjiang 42.33 83.51;
        XZ Xizang Zizhiqu=Tibet 29.73 91.54; YN Yunnan Sheng 24.98 101.62;
        ZJ Zhejiang Sheng 29.66 120.51;
    """,
    "IN": """
        AN Andaman and Nicobar Islands 12.07 92.85; AP Andhra Pradesh 16.18 80.76;
        AR Arunāchal Pradesh 27.62 94.42; AS Assam 26.32 92.62; BR Bihār 25.63 85.55;
        CG Chhattīsgarh 21.50 81.95; CH Chandīgarh 30.74 76.79;
        DH Dādra and Nagar Haveli and Damān and Diu 20.37 72.81;
        DL Delhi=National Capital Territory of Delhi 28.66 77.18; GA Goa 15.42 73.90;
        GJ Gujarāt 22.25 72.25; HP Himāchal Pradesh 31.43 76.86; HR Haryāna 29.15 76.60;
        JH Jhārkhand 23.52 85.97; JK Jammu and Kashmīr 33.62 74.84; KA Karnātaka 14.00 76.63;
        KL Kerala 10.34 76.19; LA Ladākh 34.06 77.14; LD Lakshadweep 10.46 72.95;
        MH Mahārāshtra 19.28 74.42; ML Meghālaya 25.53 91.41; MN Manipur 24.72 93.93;
        MP Madhya Pradesh 23.62 77.82; MZ Mizoram 23.50 92.79; NL Nāgāland 26.00 94.19;
        OD Odisha=Orissa 20.44 84.72; PB Punjab 30.97 75.57;
        PY Puducherry=Pondicherry 11.86 79.61; RJ Rājasthān 26.61 74.97; SK Sikkim 27.28 88.55;
        TN Tamil Nādu 11.23 78.53; TR Tripura 23.84 91.46; TS Telangāna 17.67 78.75;
        UK Uttarākhand=Uttaranchal 29.81 78.65; UP Uttar Pradesh 27.33 79.85;
        WB West Bengal 23.23 88.19;
    """,
    "JP": """
        01 Hokkaido 43.09 141.86; 02 Aomori 40.71 140.92; 03 Iwate 39.49 141.28;
        04 Miyagi 38.34 140.95; 05 Akita 39.71 140.28; 06 Yamagata 38.40 140.17;
        07 Fukushima 37.43 140.48; 08 Ibaraki 36.21 140.27; 09 Tochigi 36.55 139.84;
        10 Gunma 36.36 139.15; 11 Saitama 35.93 139.59; 12 Chiba 35.67 140.09;
        13 Tokyo 35.69 139.67; 14 Kanagawa 35.45 139.53; 15 Niigata 37.65 138.90;
        16 Toyama 36.73 137.14; 17 Ishikawa 36.63 136.63; 18 Fukui 35.96 136.18;
        19 Yamanashi 35.63 138.61; 20 Nagano 36.27 138.11; 21 Gifu 35.47 136.90;
        22 Shizuoka 34.90 138.30; 23 Aichi 35.10 136.99; 24 Mie 34.75 136.52;
        25 Shiga 35.10 136.06; 26 Kyoto 35.02 135.69; 27 Osaka 34.67 135.52;
        28 Hyogo 34.78 135.08; 29 Nara 34.57 135.78; 30 Wakayama 34.13 135.27;
        31 Tottori 35.46 133.79; 32 Shimane 35.28 132.73; 33 Okayama 34.68 133.85;
        34 Hiroshima 34.42 132.73; 35 Yamaguchi 34.06 131.51; 36 Tokushima 34.05 134.46;
        37 Kagawa 34.29 133.95; 38 Ehime 33.77 132.93; 39 Kochi 33.44 133.46;
        40 Fukuoka 33.60 130.57; 41 Saga 33.28 130.19; 42 Nagasaki 32.95 129.82;
        43 Kumamoto 32.74 130.67; 44 Oita 33.27 131.53; 45 Miyazaki 32.02 131.37;
        46 Kagoshima 31.33 130.49; 47 Okinawa 26.16 127.52;
    """,
}


def _read(country: str, rows: str) -> list[Subdivision]:
    found = []
    for row in rows.split(";"):
        if not row.strip():
            continue
        code, rest = row.split(maxsplit=1)
        names, latitude, longitude = rest.rsplit(maxsplit=2)
        found.append(
            Subdivision(
                code=f"{country}-{code}",
                country=country,
                latitude=float(latitude),
                longitude=float(longitude),
                names=tuple(" ".join(name.split()) for name in names.split("=")),
            )
        )
    return found


SUBDIVISIONS: dict[str, Subdivision] = {
    subdivision.code: subdivision
    for country, rows in _ROWS.items()
    for subdivision in _read(country, rows)
}
"""Every subdivision we know by its ISO code."""
