"""The words and the grammar that `corpus.py` puts documents together from: short lists, long tails derived from them."""

WORDS = dict(
    noun='''bird animal pair nest track group adult male female juvenile burrow call colony stream trail slope meadow forest canopy branch trunk hollow den
        chick egg feather pellet bone skull footprint scat territory perch roost flock herd shoal valley ridge summit plateau gully bank shore beach dune
        marsh reed pool pond lake river tributary waterfall bridge fence gate hedge ditch wall barn road path clearing edge thicket shrub bush tree oak
        beech birch pine spruce larch willow alder poplar bramble heather moss fern lichen orchid grass sedge flower fruit berry seed root leaf bark log
        stump boulder cliff cave crevice quarry gravel sand mud soil snow ice frost fog rain storm wind breeze cloud sky dawn dusk night morning evening
        afternoon season winter spring summer autumn camera lens battery tripod recorder microphone transect plot quadrat station observer volunteer
        farmer ranger hunter hiker dog cat sheep cow horse tractor vehicle boat trap net ring collar tag sample specimen photograph image video record
        note sketch map survey visit count estimate transmitter signal receiver antenna wing tail head bill beak claw leg foot fur coat stripe spot
        patch crest throat belly flank eye ear muzzle antler horn tooth whisker scale fin gill shell carapace egg-case larva pupa moth butterfly beetle
        dragonfly damselfly bee wasp ant spider worm snail slug frog toad newt tadpole lizard snake adder tortoise trout salmon pike perch carp eel
        minnow otter beaver badger fox wolf lynx bear marten weasel stoat hare rabbit squirrel dormouse vole shrew mouse bat deer boar chamois ibex
        eagle hawk falcon kestrel buzzard kite harrier owl crow raven magpie jay woodpecker swallow swift heron stork crane goose duck grebe tern gull''',
    animal='''otter heron fox badger lynx owl hare stork marten vole shrew falcon kite raven eagle buzzard kestrel grebe tern plover lapwing curlew snipe
        warbler thrush robin wren finch bunting pipit lark swift swallow martin shrike oriole jay magpie nuthatch treecreeper tit newt toad frog adder
        lizard skink gecko tortoise turtle trout perch pike grayling minnow loach bullhead lamprey moth beetle hawker darter damsel skipper fritillary
        hairstreak copper blue burnet weevil ladybird cricket grasshopper hopper mantis cicada spider harvestman bat pipistrelle noctule dormouse''',
    plural='''birds animals tracks calls nests pellets feathers juveniles adults droppings burrows eggs chicks otters herons foxes badgers owls hares
        storks voles kites ravens eagles grebes terns plovers warblers thrushes finches buntings larks swallows shrikes tits newts toads frogs lizards
        beetles moths dragonflies damselflies crickets spiders bats deer boars ducks geese swans gulls waders mushrooms orchids grasses shrubs trees
        logs boulders cameras volunteers hikers cattle dogs boats cars walkers anglers farmers researchers students visitors''',
    adj='''small large young old dark pale bright wet dry steep shallow deep narrow wide open dense dead fallen hollow northern southern eastern western
        upper lower central remote quiet noisy muddy sandy rocky grassy wooded flooded frozen sunny shaded exposed sheltered undisturbed grazed mown
        burnt recent fresh early late common rare scarce numerous solitary territorial nocturnal diurnal migratory resident injured healthy wary tame
        aggressive restless alert inactive brown grey black white reddish yellowish greenish bluish spotted striped mottled plain glossy dull ragged
        long short thick thin heavy light slender stout curved straight hooked forked rounded pointed broad unusual typical obvious faint distant
        nearby adjacent isolated scattered abandoned occupied empty full damaged intact artificial natural wild domestic local seasonal annual''',
    hue1='pale dark rusty ash cream olive sooty chestnut buff slate amber copper ivory russet tawny dusky', hue2='''backed bellied breasted billed capped
        cheeked collared crowned eared eyed faced flanked footed fronted headed legged naped necked rumped shouldered sided spotted striped tailed
        throated toed tipped winged barred banded edged streaked''',
    verb='''carried followed chased watched crossed left entered approached avoided visited defended guarded circled found lost ate caught dropped dragged
        fed cleaned repaired abandoned occupied inspected ignored attacked displaced joined passed reached searched marked scratched dug climbed cached
        swallowed shook probed flushed mobbed startled alarmed photographed recorded measured counted ringed weighed released located heard saw noticed
        sketched sampled collected disturbed replaced mapped described filmed tracked avoided revisited surveyed confirmed suspected reported''',
    verbi='''rested slept called sang fed foraged hunted waited moved stopped turned returned disappeared emerged landed perched hovered soared dived
        swam ran jumped climbed crouched froze fled hid drank preened basked displayed fought played howled barked growled hissed drummed fluttered
        circled wandered limped stretched yawned stared listened sniffed grazed browsed roosted hatched moulted''',
    ing='''feeding resting calling singing hunting foraging moving circling hovering perching swimming diving basking preening sleeping displaying
        fighting playing grazing roosting drumming digging climbing drinking hiding running waiting carrying watching searching chasing''',
    adv='''slowly quickly quietly suddenly repeatedly briefly twice again immediately carefully cautiously alone together nearby overhead upstream
        downstream uphill downhill northwards southwards eastwards westwards everywhere nowhere calmly nervously steadily occasionally constantly
        clearly barely apparently presumably certainly finally later earlier soon afterwards meanwhile usually often rarely sometimes always''',
    prep='''in on at near under above behind beside along across below beyond through towards around between_the_gate_and inside outside opposite
        over past within close_to next_to in_front_of at_the_edge_of on_the_far_side_of in_the_middle_of at_the_foot_of to_the_north_of to_the_south_of
        a_few_metres_from not_far_from downstream_of upstream_of''',
    det='the a this that another each one the the the our their its every some', conj='because although while when after before until since as where whereas if unless once',
    unit='m km cm mm kg g °C % minutes hours seconds individuals metres paces hectares litres degrees', month='''January February March April May June July August
        September October November December''',
    first='''Anna Marta Jonas Peter Lucía Émile Zoë Björn Aïcha Miguel Sofia Hannah Lars Ingrid Tomás Renée Jürgen Chloé Dmitri Olga Priya Ravi Mei Kenji Amara
        Kwame Fatima Omar Leila Diego Elena Marco Giulia Pierre Claire Katarzyna Piotr Eva Jan Lotte Willem Sven Astrid Niamh Sean Fiona Alan Ruth Grace Paul
        Laura David Susan James Emma Oliver Alice Henry Martin Nina Felix Clara Simon''',
    place1='''alden brunt carl dun elm fen gart hazel inver kings lang mar nether oak pen quarr red stan thorn under vall wester yar ash beck cold drum east farn
        glen hart iver ket loch moor north over pit rüsch stein tann wald zell mühl château mont beau saint villa alt berg clair fré grün höch lüt närs öst''',
    place2='''moor thal ford ton bury ley wick stead combe den field gate ham hurst mere ness shaw thorpe worth wood burn dale egg ingen horn matt au bach berg
        brunn dorf feld heim hof stadt weil ville mont court fontaine roche val lac stad vik sund näs ås holm by lund''',
    compound1='''river reed wood stone moor marsh hill field oak thorn moss sand clay rush sedge heath fen brook bank hedge copse dune snow rock lake
        pond sea salt ash elm birch pine alder willow bramble fern bog mill barn church bridge meadow valley ridge summit glen loch beck tarn''',
    compound2='''side bank edge top foot land path way bed line mouth head end wall gate house yard lawn crest bottom fold floor field wood grove patch
        stand belt plot ground cover bar pool spring fall drift slope face shelf break cut track lane post mark''',
    genus1='''acro aeg alc amph anth apo arct ast bar bryo calli card ceph chal chlor cin col cryp cyan dendr dic dry ech elaph eph eri eud fal gal gym hal hel
        hipp hyl ich lag lep lim lox mac mel micr myo neo oph ory pach par phil phyl pod pter rhin sal sph syl tax thal trit xen zyg''',
    genus2='o i ura ops ella omys icus astes ychus ornis optera ognathus othrix ura elia', genus3='s a us is um',
    epithet1='''alb alpin aquat arbor aur austral bicol brev carol cinere coron crist dors europ ferr flav font fusc glac gracil grand hort ignit insul lacustr
        litor long lut macul magn marin mont niv obscur orient palust parv pict prat punct riv rub rupestr rust silv strig sylv tenu umbr var virid vulg''',
    epithet2='us a um is e ensis inus ina atus ata icola ellus oides ans ulus escens', name1='''bar bel ber bran cal car dan del don fal fer gar hal har hol jan
        kel kir lan lar lin mal mar mor nor ol pal per ras ren ros sal sand schn sor stra tal tor val ver wal wer win zel''',
    name2='a e i o u al an ar el en er in is on or und ing', name3='der man ton sen ski ley well ford berg ez ini mann sson vic ard ens etti ova quist rup')

GRAMMAR = dict(
    phrases=dict(  # kind: (size as a share of POOL, patterns)
        S=(1.5, ['The {noun} ', 'The {adj} {noun} ', 'A {adj} {noun} ', 'One {animal} ', 'Two {adj} {plural} ', 'Several {plural} ', 'The {animal} ', 'A {animal} ', 'An unringed {animal} ',
           'Our {adj} {noun} ', '{number} {plural} ', 'Some {plural} ', 'The {noun} near {place} ', 'Another {adj} {animal} ', 'The {plural} ', 'That {noun} ', 'Each {noun} ', 'Most {plural} ',
           'Nobody near the {noun} ', 'The same {animal} ', 'The observer from {place} ', 'A group of {number} {plural} ', 'The {adj} {plural} of {place} ', 'What looked like a {adj} {animal} ']),
        s=(1.5, ['the {noun} ', 'the {adj} {noun} ', 'a {adj} {noun} ', 'one {animal} ', 'two {adj} {plural} ', 'several {plural} ', 'the {animal} ', 'a {animal} ', 'our {adj} {noun} ',
           'all {number} {plural} ', 'some {plural} ', 'the {noun} near {place} ', 'another {adj} {animal} ', 'the {plural} ', 'it ', 'they ', 'we ', 'I ', 'most {plural} ', 'the same {animal} ',
           'a group of {number} {plural} ', 'the {adj} {plural} of {place} ', 'a second {animal} ']),
        V=(1.5, ['{verb} the {noun} ', '{verb} a {adj} {noun} ', '{verb} {det} {noun} ', '{verb} {number} {plural} ', '{verbi} {adv} ', '{verbi} for {number} {unit} ', '{adv} {verb} the {animal} ',
           '{verbi} and {verb} the {plural} ', 'was {ing} ', 'was {adv} {ing} ', 'were {ing} ', 'had {verb} a {noun} ', 'was {adj} and {adj} ', 'seemed {adj} ', 'looked {adj} but {adj} ',
           'could not be {verb} ', '{verb} our {noun} ', 'did not return ', 'stayed {adj} ', '{verb} what was left of the {noun} ', 'must have {verb} the {adj} {noun} ', '{verb} the {genus} ',
           'has {adj} {plural} ', 'is probably {adj} ', 'will be {verb} again ', 'may have been a {adj} {animal} ', 'showed a {adj} {noun} ', 'kept {ing} ', 'started {ing} ']),
        P=(1.5, ['{prep} the {noun} ', '{prep} a {adj} {noun} ', '{prep} the {adj} {noun} ', '{prep} {place} ', 'for about {big} {unit} ', 'at {clock} ', 'from {place} to {place} ',
           'with {number} {plural} ', 'without any {noun} ', 'in {month} ', 'in {month} {year} ', 'during the {adj} {noun} ', '{prep} {det} {noun} of {place} ', 'by the {noun} ', 'into the {noun} ',
           'out of the {adj} {noun} ', 'between {clock} and {clock} ', 'at about {decimal} {unit} ', 'towards {place} ', 'of the {adj} {plural} ', 'together with a {animal} ', 'on {day} {month} ']),
        C=(1.0, ['{conj} the {noun} was {adj} ', '{conj} a {animal} {verbi} {adv} ', '{conj} {number} {plural} were {ing} ', '{conj} the {adj} {noun} had been {verb} ', '{conj} we {verb} the {noun} ',
           '{conj} it {verb} the {adj} {animal} ', '{conj} nobody {verb} the {noun} ', '{conj} the {plural} {verbi} {adv} ', 'which the {animal} {verb} ', 'which was {adj} in {month} ',
           'and {verb} the {noun} ', 'but {verbi} {adv} ', 'and the {adj} {noun} {verbi} ', '{conj} there was no {noun} ', '{conj} they had {verb} a {noun} at {place} ']),
        A=(.7, ['Shortly after {clock} ', 'In the {adj} {noun} ', 'At {place} ', 'Near the {adj} {noun} ', 'On {day} {month} {year} ', 'Later ', 'During the {noun} ', '{number} {unit} further on ',
           'Around {clock} ', 'Behind the {noun} ', 'To our surprise ', 'According to the {noun} ', 'Beyond the {adj} {noun} ', 'After {number} {unit} ', 'As in {year} ', 'With {number} {plural} ', 'Under the {noun} ']),
        N=(.7, ['Air temperature {decimal} °C with wind from the {adj} {noun} ', 'Water depth {decimal} m at the {noun} ', 'Camera {tag} at {place} was {adj} ', 'Count: {number} {plural} and {number} {plural} ',
           'Elevation {big} m near {place} ', 'Visibility about {big} m ', 'Ring {tag} was read on a {adj} {animal} ', 'Identified as {genus} {epithet} by its {adj} {noun} ', 'Compare {genus} {epithet} ({surname}, {year}) ',
           'Specimen {tag} of {genus} {epithet} {surname}, {year} ', 'Weather {adj} and {adj} ', 'Body length {decimal} cm and mass {big} g ', 'Battery of {tag} at {number} % ', 'No {noun} and no {plural} ',
           'Grid square {tag} with {number} % {noun} ', 'Habitat {adj} {noun} with {plural} ', 'Eberhard\'s {animal} and Père David\'s {noun} were not seen ', 'Age class: {adj} {noun} ']),
        O=(.3, ['and ', 'but ', 'so ', 'and then ', 'and also ', 'while ', 'yet ', 'and later ', 'and, {adv}, '])),
    sentences=['S V P END', 'S V END', 'A s V P END', 'S V P C END', 'S V C END', 'A s V C END', 'N END', 'S V P O s V END', 'S V P P END', 'N P END', 'A s V P P END', 'S P V P END', 'S V O s V P END',
               'A s V O s V END', 'S V P O s V C END', 'S P V C END', 'N C END', 'A s P V END'],
    ends=['. '] * 12 + ['.\n', '.\n\n', '! ', '; see below. ', '. ', '. ', '. '],
    pii=dict(PERSON=[('Seen together with ', '. '), ('The landowner ', ' asked for a copy. '), ('Determined by ', ' in the field. '), ('', ' found it first. '), ('Please ask ', ' about access. ')],
             EMAIL=[('Photos to ', ' please. '), ('Contact: ', '. '), ('Send the ring number to ', ' as usual. ')], PHONE=[('Call ', ' before entering. '), ('Tel. ', '. '), ('The ranger answers on ', ' at night. ')],
             IP=[('The camera uploads from ', '. '), ('Logger reachable at ', ' in the hut. ')], CARD=[('Deposit for the key was paid with card ', '. '), ('Card number ', ' for the boat hire. ')],
             IBAN=[('Refund the fuel to ', '. '), ('IBAN: ', '. ')], SSN=[('SSN ', ' on the permit form. '), ('Social security number ', ' of the helper. ')],
             ADDRESS=[('Key at ', '. '), ('The observer lives at ', ' beside the site. ')], HANDLE=[('Posted by ', ' the same day. '), ('Thanks to ', ' for the tip. ')]),
    species=[('Lynx lynx', 'Felis lynx'), ('Vulpes vulpes', 'Canis vulpes'), ('Meles meles', 'Ursus meles'), ('Lutra lutra', 'Mustela lutra'), ('Capreolus capreolus', 'Cervus capreolus'),
             ('Cervus elaphus',), ('Ursus arctos',), ('Canis lupus',), ('Sciurus vulgaris',), ('Castor fiber',), ('Lepus europaeus',), ('Marmota marmota', 'Mus marmota'), ('Rupicapra rupicapra', 'Capra rupicapra'),
             ('Erithacus rubecula', 'Motacilla rubecula'), ('Turdus merula',), ('Cyanistes caeruleus', 'Parus caeruleus'), ('Pica pica', 'Corvus pica'), ('Upupa epops',), ('Alcedo atthis', 'Gracula atthis'), ('Corvus corax',),
             ('Garrulus glandarius', 'Corvus glandarius'), ('Carduelis carduelis', 'Fringilla carduelis'), ('Ardea cinerea',), ('Ciconia ciconia', 'Ardea ciconia'), ('Grus grus', 'Ardea grus'), ('Numenius arquata', 'Scolopax arquata'),
             ('Recurvirostra avosetta',), ('Salmo trutta',), ('Esox lucius',), ('Perca fluviatilis',), ('Cyprinus carpio',), ('Vipera berus', 'Coluber berus'), ('Natrix natrix', 'Coluber natrix'), ('Coronella austriaca',),
             ('Lacerta viridis',), ('Panthera leo', 'Felis leo'), ('Panthera tigris', 'Felis tigris'), ('Alces alces', 'Cervus alces'), ('Procyon lotor', 'Ursus lotor'), ('Rattus norvegicus', 'Mus norvegicus')])

BOILERPLATE = ['This site uses cookies to improve your experience. Accept all cookies', 'Share this on Facebook | Twitter | WhatsApp', 'Sent from my iPhone', 'Click here to subscribe to our newsletter',
               'All rights reserved. Privacy Policy | Terms of Use', 'We use cookies. By continuing to browse you agree to our cookie policy.', 'Share on Facebook\nShare on Twitter\nPrint this page',
               'Get Outlook for Android', 'Gesendet von meinem iPhone', 'Envoyé de mon iPhone', 'Copyright © 2021 Regional Recording Scheme. All rights reserved.', 'Read more »', 'Skip to main content',
               'Please enable JavaScript to view this page.', '0 comments | Leave a comment | Log in to reply']
SIGNATURES = ['-- \nMarta\nWetland survey team', 'Best regards,\nJonas', 'Kind regards\nThe volunteers of the reserve', '--\nField assistant, station 7\nwww.example.org', 'Cheers,\nAnna', 'Mit freundlichen Grüßen\nPeter',
              'Cordialement,\nÉmile', 'Many thanks,\nZoë\nRegional coordinator']
LOREM = ['Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor % incididunt ut labore et dolore magna aliqua.', 'Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo.',
         'Duis aute irure dolor in reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla pariatur.']
SCRIPT = ['function track%(e) { var x = document.getElementById("q%"); if (x) { x.style.display = "none"; } }', 'var _gaq = _gaq || []; _gaq.push(["_setAccount", "UA-%"]);', 'window.onload = function() { init(%); };',
          '.menu { margin: 0; padding: %px; } .menu li { float: left; }', 'if (typeof jQuery === "undefined") { throw new Error("needs jQuery %"); }']

# Small grammars of other languages: enough to be told apart, and for documents that differ from one another.
FOREIGN = dict(
    de=dict(n='Fuchs|Vogel|Hirsch|Dachs|Reiher|Luchs|Hase|Frosch|Käfer|Falter|Specht|Bussard|Marder|Storch|Fischotter|Biber|Baum|Bach|Hang|Weg|Wald|Teich|Stein|Graben|Zaun|Schnee',
            a='kleine|große|alte|junge|dunkle|helle|verletzte|scheue|seltene|ruhige|braune|graue|nasse|trockene', v='saß|lief|flog|rief|schlief|jagte|wartete|verschwand|sang|fraß|kam|stand|trank|suchte',
            p='im Wald|am Bach|auf der Wiese|unter der Brücke|hinter dem Hof|neben dem Weg|in der Nähe des Teiches|über dem Tal|bei der alten Eiche|zwischen den Steinen|am Rand der Lichtung',
            t='heute|am Morgen|gegen Abend|in der Nacht|nach dem Regen|kurz vor Sonnenaufgang|seit gestern|im Winter|noch einmal|vermutlich',
            patterns=['der {a} {n} {v} {t} {p}.', '{t} {v} der {a} {n} {p} bei {place}.', 'wir haben um {clock} Uhr {number} Tiere {p} gezählt, aber der {n} war nicht zu sehen.', 'es gab dort keinen {n}, weil der {a} {n} {t} {p} {v}.',
                      'ein {n} und ein {n} sind {t} {p} gewesen.', 'die Spuren führten von {place} nach {place} und dann zum {n}.', 'ich bin nicht sicher, ob das der {a} {n} von {place} ist.']),
    fr=dict(n='renard|oiseau|cerf|blaireau|héron|lynx|lièvre|crapaud|papillon|faucon|castor|hibou|chevreuil|loup|sanglier|écureuil|arbre|ruisseau|sentier|rocher|étang|pont|fossé',
            a='petit|grand|vieux|jeune|sombre|blessé|rare|tranquille|brun|gris|isolé|farouche', v='dormait|courait|volait|chantait|attendait|mangeait|chassait|buvait|restait|criait|cherchait',
            p='dans la forêt|près du ruisseau|sur la prairie|sous le pont|derrière la ferme|au bord du chemin|à côté de l\'étang|entre les rochers|au-dessus de la vallée|le long de la rivière',
            t='ce matin|hier soir|pendant la nuit|après la pluie|avant le lever du soleil|encore une fois|depuis deux jours|en hiver|sans doute',
            patterns=['le {a} {n} {v} {p} {t}.', '{t}, un {n} {a} {v} {p} à {place}.', 'nous avons compté {number} individus {p} vers {clock}, mais le {n} n\'était pas là.', 'il y avait un {n} et des traces qui allaient de {place} vers {place}.',
                      'je ne sais pas si c\'est le {n} {a} que nous avons vu {p}.', 'les {number} autres étaient {p} avec un {n}.']),
    es=dict(n='zorro|pájaro|ciervo|tejón|lince|conejo|sapo|halcón|búho|lobo|jabalí|árbol|arroyo|sendero|puente|estanque|nido|erizo|gato montés|águila joven|camino', a='pequeño|grande|viejo|joven|oscuro|herido|raro|tranquilo|pardo|gris|solitario',
            v='dormía|corría|volaba|cantaba|esperaba|comía|cazaba|bebía|estaba|gritaba|buscaba', p='en el bosque|cerca del arroyo|sobre la pradera|bajo el puente|detrás de la granja|al borde del camino|junto al estanque|entre las rocas|a lo largo del río',
            t='esta mañana|ayer por la tarde|durante la noche|después de la lluvia|antes del amanecer|otra vez|desde hace dos días|en invierno|sin duda', patterns=['el {n} {a} {v} {p} {t}.', '{t} un {n} {a} {v} {p} en {place}.',
            'hemos contado {number} animales {p} a las {clock}, pero el {n} no estaba allí.', 'había un {n} y las huellas iban de {place} hasta {place}.', 'no sé si es el {n} {a} que vimos {p}.', 'los otros {number} estaban {p} con un {n}.']),
    it=dict(n='volpe|uccello|cervo|tasso|airone|gufo|lupo|cinghiale|rospo|falco|albero|ruscello|sentiero|ponte|stagno|nido|riccio|scoiattolo', a='piccolo|grande|vecchio|giovane|scuro|ferito|raro|tranquillo|bruno|grigio|solitario',
            v='dormiva|correva|volava|cantava|aspettava|mangiava|cacciava|beveva|stava|cercava', p='nel bosco|vicino al ruscello|sul prato|sotto il ponte|dietro la fattoria|lungo la strada|accanto allo stagno|tra le rocce|sopra la valle',
            t='questa mattina|ieri sera|durante la notte|dopo la pioggia|prima dell\'alba|ancora una volta|da due giorni|in inverno|senza dubbio', patterns=['il {n} {a} {v} {p} {t}.', '{t} un {n} {a} {v} {p} a {place}.',
            'abbiamo contato {number} animali {p} alle {clock}, ma il {n} non c\'era.', 'c\'era anche un {n} e le tracce andavano da {place} fino a {place}.', 'non so se questo è il {n} {a} che abbiamo visto {p}.', 'gli altri {number} erano {p} con un {n}.']),
    pt=dict(n='raposa|pássaro|veado|texugo|lince|coelho|sapo|falcão|lobo|javali|ribeiro|caminho|ninho|ouriço|esquilo|lago|carvalho', a='pequeno|grande|velho|jovem|escuro|ferido|raro|tranquilo|pardo|cinzento',
            v='dormia|corria|voava|cantava|esperava|comia|caçava|bebia|estava|procurava', p='na floresta|perto do ribeiro|no prado|debaixo da ponte|atrás da quinta|à beira do caminho|ao lado do lago|entre as rochas|ao longo do rio',
            t='esta manhã|ontem à tarde|durante a noite|depois da chuva|antes do amanhecer|outra vez|há dois dias|no inverno|sem dúvida', patterns=['o {n} {a} {v} {p} {t}.', '{t} um {n} {a} {v} {p} em {place}.',
            'contámos {number} animais {p} às {clock}, mas o {n} não estava lá.', 'havia também um {n} e as pegadas iam de {place} até {place}.', 'não sei se é o {n} {a} que vimos {p}.', 'os outros {number} estavam {p} com um {n}.']),
    nl=dict(n='vos|vogel|hert|das|reiger|haas|pad|valk|uil|wolf|bever|boom|beek|brug|vijver|nest|egel|eekhoorn|weg|sloot', a='kleine|grote|oude|jonge|donkere|gewonde|zeldzame|rustige|bruine|grijze', v='sliep|liep|vloog|zong|wachtte|at|jaagde|dronk|stond|zocht|riep',
            p='in het bos|bij de beek|op de weide|onder de brug|achter de boerderij|langs de weg|naast de vijver|tussen de stenen|boven het dal', t='vanmorgen|gisteravond|in de nacht|na de regen|voor zonsopgang|opnieuw|sinds gisteren|in de winter|waarschijnlijk',
            patterns=['de {a} {n} {v} {t} {p}.', '{t} {v} een {a} {n} {p} bij {place}.', 'wij hebben om {clock} uur {number} dieren {p} geteld, maar de {n} was er niet.', 'er was ook een {n} en het spoor ging van {place} naar {place}.', 'ik weet niet of dit de {a} {n} is die we {p} hebben gezien.']),
    pl=dict(n='lis|ptak|jeleń|borsuk|zając|sokół|wilk|bóbr|dzik|strumień|most|staw|jeż|las|dąb|ryś', a='mały|duży|stary|młody|ciemny|ranny|rzadki|spokojny|brązowy|szary', v='spał|biegł|leciał|śpiewał|czekał|jadł|polował|pił|stał|szukał',
            p='w lesie|nad strumieniem|na łące|pod mostem|za gospodarstwem|przy drodze|obok stawu|między kamieniami', t='dziś rano|wczoraj wieczorem|w nocy|po deszczu|przed wschodem słońca|jeszcze raz|od wczoraj|zimą|prawdopodobnie',
            patterns=['{a} {n} {v} {t} {p}.', '{t} {a} {n} {v} {p} koło {place}.', 'o godzinie {clock} było {number} zwierząt {p}, ale {n} się nie pokazał.', 'był też {n} i ślady, które szły z {place} do {place}.', 'nie wiem, czy to jest ten {a} {n}, który {v} {p}.']),
    ru=dict(n='лис|олень|барсук|заяц|волк|бобр|кабан|сокол|дятел|ёж|дрозд|аист', a='маленький|большой|старый|молодой|тёмный|раненый|редкий|спокойный|бурый|серый', v='спал|бежал|летел|пел|ждал|ел|охотился|пил|стоял|искал',
            p='в лесу|у ручья|на лугу|под мостом|за фермой|у дороги|возле пруда|между камнями', t='сегодня утром|вчера вечером|ночью|после дождя|перед рассветом|ещё раз|зимой|вероятно',
            patterns=['{a} {n} {v} {t} {p}.', '{t} {a} {n} {v} {p} около {place}.', 'в {clock} мы насчитали {number} животных {p}, но {n} не появился.', 'там был и {n}, а следы шли от {place} до {place}.']))


def luhn(body: str) -> str:
    "Digits with their check digit (ISO/IEC 7812-1)."
    total = sum(d if i % 2 else d * 2 - 9 * (d > 4) for i, d in enumerate(map(int, reversed(body))))
    return body + str(-total % 10)

def mod97(country: str, account: str) -> str:
    "An IBAN with its check digits (ISO 7064)."
    number = ''.join(str(int(c, 36)) for c in account + country + '00')
    return f'{country}{98 - int(number) % 97:02d}{account}'
