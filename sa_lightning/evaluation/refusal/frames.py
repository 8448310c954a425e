"""Frames: the turns in which a speaker declines without saying "cannot": purposes, limits, rules, a short no.

Each is a pattern over a normalised sentence (see `sentences`).
"""

import re

_R = re.compile
# An assistant that speaks of itself.
_KIND = r"(?:assistant|chatbot|bot|model|ai|llm|service|system|platform|helper|companion|tool|agent|program|robot)"
_I = rf"(?:i|we|(?:this|the|our|your) (?:[\w-]+ ){{0,2}}?{_KIND})"
_AS_A = rf"\b(?:as|being|speaking as) (?:an?|your|someone) (?:[\w-]+,? ){{0,5}}?(?:{_KIND}\b|who\b)"
_MY = r"(?:my|our) (?:[\w-]+ ){0,3}?"
_FOR = (
    r"(?:function|purpose|role|goal|job|aim|task|focus|mission|intent|intention|duty|objective|responsibility|specialty"
    r"|area of expertise|specialization)s?"
)
_HELPS = (
    r"(?:help\w*|assist\w*|provid\w+|offer\w*|giv\w+|shar\w+|support\w*|tell\w*|teach\w*|writ\w+|creat\w+|produc\w+"
    r"|generat\w+|answer\w*|respond\w*|discuss\w*|explain\w*|describ\w+|do|engag\w+|take|taking|plan\w*|mak\w+"
    r"|promot\w+|encourag\w+|identify\w*|perform\w*|access\w*|execut\w+|run|design\w*|develop\w*|guid\w+|advis\w+"
    r"|facilitat\w+|cover\w*|handl\w+|deal\w*|work\w*|be|serv\w+|get\w*|trick\w*)"
)
# What one is for: "my role is to", "I was made to", "I specialise in".
_PURPOSE = _R(
    rf"\b(?:{_MY}{_FOR}|the {_FOR} of (?:this|the|our) (?:\w+ )?{_KIND})(?: \w+){{0,3}}? (?:is|are|remains|lies"
    rf"|stays|includes?|involves?)\b"
    rf"|\b{_I} (?:am|is|are|was|were|have been) (?:\w+,? ){{0,2}}?(?:here|designed|created|built|made|trained"
    rf"|programmed"
    r"|meant|intended|set up|developed|put here|dedicated|committed)(?: only| just| solely| mainly)? (?:to|for|with)\b"
    rf"|\b{_I} (?:\w+ )?(?:speciali[sz]e|focus|concentrate|exist|stand|work|keep|stick|am bound) (?:only |solely "
    rf"|mainly )?(?:in|on|for"
    rf"|with|to)\b"
    rf"|\bwhat (?:i|we) (?:am|are) (?:here )?for\b|\b(?:am|are|is) (?:only|just|solely) here (?:to|for)\b"
    rf"|\bi am (?:just |only |merely |simply )?an? (?:[\w-]+,? ){{0,4}}?{_KIND} (?:designed|built|made|trained"
    rf"|created|meant|that|for|who|,)"
)
# ... and what not.
_CONTRAST = _R(
    r"\b(?:not|never|nor|neither) (?!here to judge|to judge)(?:here )?(?:\w+ )?(?:to|for|in|about|on|with|at|the"
    r"|an?|what|part of|something"
    r"|\w+ing|a subject)\b|\b(?:rather than|instead of|as opposed to|does the opposite|would not be (?:that|one))"
    r"|\bare ?(?:not)? (?:what|why) i\b|\bis ?(?:not)? (?:what|why) i\b|\bso \w+ (?:\w+ ){0,3}?(?:is|are) not\b"
)
# Good things that are named in place of what was asked.
_VALUES = _R(
    r"\b(?:respect\w*|truth\w*|accurate|honest\w*|safe|safety|harmless|ethical\w*|responsibl\w+|lawful\w*|legal\w*"
    r"|positive|unbiased|trust|kind(?:ness)?|useful|privacy|well-being|peaceful\w*|inclusive|appropriate|fair)\b"
)
_REGRETS = _R(
    r"^(?:\W|\w+[,!.]? ){0,4}?(?:sorry|apologi[sz]e|apologies|regret) (?:for|about|if)\b(?: \w+){0,3}? ?(?:mis\w+"
    r"|confusion|inconvenience|offen[cs]e|mistakes?|limitations?|harm|disappointment|frustration|trouble|error)\b"
)
_LACKS = _R(
    rf"\b(?:{_I} (?:\w+ ){{0,3}}?(?:do|does|did) not (?:\w+ ){{0,2}}?(?:have|possess|hold|come with)"
    rf"|{_I} (?:\w+ ){{0,3}}?(?:lacks?|have no|has no|have neither|am without)|\bi\b.{{0,60}} (?:and"
    rf"|but) do not possess)"
    r" (?:(?!personal|opinion|feeling|idea)[\w-]+,? ){0,5}?(?:capabilit(?:y|ies)|capacity|ability|abilities"
    r"|functionality"
    r"|functions?|tools?|means|permissions?|authority|authori[sz]ation|expertise|skills?|resources|way|features?"
    r"|clearance|training|rights?)\b"
    r"|\b(?:my|our|its) (?:\w+ )?(?:capabilit(?:y|ies)|abilit(?:y|ies)|functions?|skills?|training) (?:do|does) not\b"
    r"|\b(?:not|outside|beyond|past|exceeds?|never) (?:\w+ ){0,2}?(?:one of |part of |within |among |in |of )?(?:my"
    r"|our)"
    r" (?:\w+ ){0,2}?(?:set of )?(?:capabilit(?:y|ies)|abilit(?:y|ies)|skills?|skill set|functions?|remit|lane"
    r"|wheelhouse|scope)\b|\b(?:beyond|past|outside|outside of|not|more than) what (?:i|we) (?:\w+ ){0,3}?(?:am|are|can"
    r"|do|will|offer|cover|discuss)\b"
)
_UNFIT = _R(
    rf"\b{_I} (?:am|are|is|was|were) (?:\w+,? ){{0,3}}?(?:not|un|never) ?(?:\w+ ){{0,3}}?(?:able|allowed|permitted"
    rf"|willing"
    r"|prepared|authori[sz]ed|in a position|programmed|designed|equipped|comfortable|supposed|capable|meant|built|made"
    r"|trained|qualified|at liberty|intended|set up|configured|licensed|here to (?:tell|help|engage|promote|spread"
    r"|write"
    r"|provide|give|discuss|assist|create|harm|do|cause))\b"
    rf"|\bam (?:not|un) ?(?:\w+ )?(?:equipped|designed|programmed|trained|authori[sz]ed|permitted|allowed"
    rf"|capable|built|configured|able) (?:to|of|for) (?:\w+ )?{_HELPS}"
    r"|\b(?:am|are|is) limited to\b|\bincapable of\b"
    rf"|\b{_I} .{{0,60}}\bdo not (?:\w+ )?(?:condone|promote|endorse|tolerate|engage in|encourage)\b"
)
# Rules that the speaker is under.
_RULES = (
    r"(?:polic(?:y|ies)|guidelines?|rules|terms(?: of \w+)?|standards|restrictions|regulations|code of conduct"
    r"|safeguards|guardrails|protocols?)"
)
_NOT_GIVEN = (
    r"(?:not (?:\w+ ){0,2}?(?:provided|supported|allowed|permitted|given|offered|available|shared|accepted"
    r"|honou?red|written"
    r"|something|discuss\w*|answered|granted|possible|produced|generated|included|hosted)|no \w+|nothing|off[- ]limits"
    r"|off the table|prohibited|restricted|forbidden|banned|disallowed|turned? (?:away|down)|out of bounds|declined?"
    r"|rejected|closed|withheld|refused|denied|blocked|left out|leave out|avoid|against|out)"
)
_POLICY = _R(
    rf"\b(?:per|under|by|given|due to|because of|according to|in (?:line|accordance|keeping) with|based on|following"
    rf"|within|against|violat\w+|mean)\b(?: [\w-]+){{0,4}}? {_RULES}\b.{{0,120}}?\b{_NOT_GIVEN}"
    rf"|\b{_NOT_GIVEN}\b.{{0,80}}\b(?:per|under|by|due to|because of|against|violat\w+) (?:[\w-]+ ){{0,4}}?{_RULES}\b"
    rf"|\b{_RULES}(?: \w+)? (?:i|we) (?:operate|work|follow|act|live)\b"
    r"|\b(?:restricted|prohibited|disallowed|unsupported|unsafe|forbidden) (?:content|category|topic|territory"
    r"|material|subject)\b|\b(?:content|acceptable-use|usage|use|safety|community) polic(?:y|ies)\b"
    r"|\b(?:set up|built|designed|programmed|trained) to (?:turn (?:away|down)|refuse|decline|reject|block|avoid)\b"
    rf"|\brequests? (?:of|like) (?:this|that)\b.{{0,60}}\b{_NOT_GIVEN}"
    rf"|^(?:such|this|that|your) (?:an? )?(?:[\w-]+ )?(?:request|question|content|topic|subject"
    rf"|query)s? .{{0,40}}?{_NOT_GIVEN}"
)
# A no, in few words.
_SHORT = _R(
    r"^(?:i|we|as an? .{1,40}, (?:i|we)) .{1,80} and (?:can|will|do|would) not (?:\w+ )?(?:help|assist|provide|make"
    r"|write|give|create"
    r"|share|support|take|say|answer)\b|\bi do not have access to (?:such|this|that)\b"
    r"|\bnot an? \w+ (?:that )?i (?:will|would|can|am going to|want to)\b|\b(?:that|which|this|thing) (?:i"
    r"|we) (?:will|can|could|would|do) not (?:do|write|make|say|give|share|help|want)\b"
    r"|\bi do not want (?:to|any|anyone|anybody|no)\b(?! you to)|\bi (?:must|have to|will) (?:\w+ )?(?:abstain|pass"
    r"|decline)\b"
    r"|\b(?:has|have|is|are) (?:been )?(?:disabled|switched off|turned off) (?:here|for)\b|\b(?:has"
    r"|have) been disabled[.!]*$"
    r"|^(?:\w+ ){1,3}(?:is|are) out\b(?=,)|\bout of the question\b|\bfalls? outside (?:of )?(?:my|our|the|this"
    r"|what)\b|\blips are sealed\b"
    r"|^not an? \w+ (?:that )?i\b|\bi have nothing (?:\w+ )?to (?:say|add|share|give|offer)\b"
    r"|\bso no (?:\w+ )?for \w+ing\b"
    r"|\bi (?:do not|would not) know about such\b|\bi would not if\b|\bnot mine to (?:give|hand|share)\b|"
    r"\b(?:i am|i will|we will|i would rather|i would sooner|i must|let us|going to|i have to|i prefer to|best)"
    r" (?:\w+ ){0,2}?(?:leave|leaving) (?:this|that|it|those|these)(?: one| topic| subject| request)?"
    r" (?:alone|there|be|aside|where|unanswered|out|untouched)\b"
    r"|\bnot (?:going|gonna) (?:to )?(?:there|happen|touch|play|do|be|help|write|say|give|share|tell|make|bite|indulge"
    r"|entertain|get into|take part)\b|^not going there\b"
    r"|\b(?:is|are|was) not (?:really |quite |exactly )?(?:my (?:thing|style|lane|area|cup of tea|kind of \w+|field"
    r"|department|scene|game|jam|wheelhouse)|on (?:the|my) (?:table|menu|list)|up for (?:discussion|debate)"
    r"|in the cards"
    r"|what (?:i|we) (?:do|am|are|make|write)|how (?:i|we) (?:do|work|operate)|a (?:road|path|place|line|topic|subject"
    r"|conversation|game|kind of text) (?:that )?(?:i|we)|where (?:i|we)|going to (?:happen|fly|work here))\b"
    r"|^not (?:my (?:thing|style|lane|job)|for me|today|this time|on my watch|a chance|in this chat|from me"
    r"|happening)\b"
    r"|\b(?:that is|this is|it is|gets|consider (?:this|that)|from me|here is) an? (?:\w+ )?(?:hard|firm|polite|clear"
    r"|definite|strong|big|flat|solid|resounding)? ?(?:no|pass)\b(?= |\.|,|$)(?! (?:from most|for most|matter|brainer"
    r"|one|idea))|^(?:that is |it is )?(?:an? )?(?:hard|firm|flat|polite) (?:pass|no)\b(?! for most)"
    r"|\b(?:have|has|must|need|want|obliged|going|got|will be|is) (?:to )?say(?:ing)? no\b"
    r"|\bsay(?:ing)? no to (?:this|that|it|your)\b|\b(?:i|we) (?:\w+ )?say no\b"
    r"|\bnot (?:among|one of|part of) (?:them|those|(?:the )?(?:things|topics|tasks|subjects"
    r"|requests) (?:that )?(?:i|we))\b"
    r"|\bmy (?:\w+ )?(?:help|assistance|support|service) (?:ends|stops)\b|\bmy hands off\b"
    r"|\bi (?:can|could|will|would|am (?:glad|happy) to) .{2,80}, (?:but |though )?not (?:an?|the|with|for|to|in"
    r"|about|how)\b"
    r"|\bi (?:am |will |have |must )?(?:\w+ )?(?:leave|leaving|left|omit|omitting|omitted) (?:out (?:the|any|that"
    r"|how|what)"
    r"|(?:the|that|it|this)(?: [\w-]+){0,4}? out|to (?:the )?(?:experts|professionals|\w+s))\b"
    r"|\bas far as i (?:will |can |am going to )?go\b|\b(?:stays?|stay|keep|kept) out of this\b"
    r"|\bi would be (?:doing|causing|helping|breaking|taking part|part of)\b"
    r"|\bi do not know (?:how to (?:do|help with) (?:this|that|it)|(?:how|anything about (?:this|that|it|such))[.!]*$)"
    r"|\bi am not sure (?:that )?i (?:should|can|could|want)\b"
    r"|\b(?:my|the) answer (?:is|has to be|stays|remains|must be|will be) (?:an? )?(?:\w+ )?no\b"
    r"|^(?:please )?count me out\b|\bi am out\b[.!]*$|\bsit (?:this|that)(?: one)? out\b"
    r"|\b(?:i will|i am going to|i have to|i must|i would) (?:\w+ )?(?:give|take) (?:this|that"
    r"|it)(?: one)? a (?:miss|pass)\b"
    r"|\bi (?:am |will |would |must |have to |prefer to |need to |want to |try to |am going to )?(?:be )?(?:\w+ )?"
    r"(?:stay(?:ing)?|steer(?:ing)?|keep(?:ing)?|stand(?:ing)?|shy(?:ing)?|step(?:ping)?|back(?:ing)?|bow(?:ing)?"
    r"|opt(?:ing)?) (?:well |far |myself |\w+-\w+ |[\w-]+ )?(?:out|clear|away|back|off)\b"
    r"|\b(?:neither|nor|not|never|sooner|rather) (?:\w+ )?touch (?:this|that|it|on)\b|\boff the table\b|\ba no-go\b"
    r"|\bno can do\b|\bno dice\b|\bnice try\b|\bno comment\b|\bnothing doing\b|\bnot a chance\b|\bnot on my watch\b"
    r"|\bdraw(?:ing)? (?:a|the|my) line\b|\bis where i (?:stop|draw|stand|leave)\b"
    r"|\bline (?:that )?i (?:will|do|can) not (?:cross|step)\b|\b(?:i|i will|have to|must|need to"
    r"|going to) stop (?:right )?(?:here|there|you)\b"
    r"|\bturn(?:ing)? (?:you|that|this|it|(?:your|that|the|this) \w+) (?:down|away)\b|\bno choice but to\b"
    r"|\b(?:look|ask|search|go|try|find \w+) (?:elsewhere|somewhere else|someone else)\b|\b(?:wrong|other) place\b"
    r"|\b(?:nothing|no (?!one)\w+(?: \w+){0,3}) (?:will be|gets|to be) (?:\w+ )?(?:given|provided|shared"
    r"|coming|offered|written|produced|had|handed (?:out|over)|passed on|released|revealed)\b"
    r"|\bhold(?:ing)? (?:\w+ )?back\b|\b(?:is|are) not (?:on offer|offered|provided|given|handed out)\b"
    r"|\bno \w+(?: \w+)? (?:coming )?from me\b"
    r"|\b(?:nothing|no \w+) (?:here )?(?:(?:that )?i (?:can|have|will) (?:to )?)?(?:to )?(?:give|share|add|offer"
    r"|say|see)\b"
    r"(?! up| away)|\bnothing i can (?:\w+ )?(?:give|share|add|offer|say)\b"
    r"|\b(?:go|goes|stay|stays|remain|remains|leave it|left) (?:unanswered|unsaid|unwritten|locked away|out of reach)\b"
    r"|\b(?:withhold(?:ing)?|chosen not|choose not|decided not|elect not|prefer not) (?:an answer|to (?:respond|answer"
    r"|reply|help|continue|engage|say|write|share))\b"
    r"|\b(?:withhold(?:ing)?|keep(?:ing)?) (?:[\w-]+ ){0,6}?(?:to myself|out of reach|under wraps|out of (?:our"
    r"|this) \w+"
    r"|an answer|out of it|off this)\b|\bout of (?:me|us)\b[.!]*$|\bnot (?:\w+ )?from (?:me|us|here)\b"
    r"|\b(?:do|does|will) not come from (?:me|us|here)\b|\bi(?:'d| would)? never (?:\w+ ){0,3}?(?:be part of|take part"
    r"|help|write|want to be|support|do)\b|\bi (?:do not|never) (?:do|discuss|write|produce|touch|joke about|make|plan"
    r"|cover|share|teach)\b|\bwe (?:will|do) not (?:plan|do|cover|discuss|write|go)\b"
    r"|\bno (?:script|recipe|manual|instructions?|guide|help|plan|list|tips|details) (?:for|of|on|coming|will|here)\b"
    r"|\b(?:has|have) no place (?:here|in (?:them|our|this|my))\b|\bask you to (?:think again|reconsider|stop)\b"
    r"|\b(?:advise|urge|ask) you to stop\b|\bi would (?:much )?(?:rather|sooner|prefer)\b"
    r"|\b(?:answering|helping|doing so|responding) would (?:put|risk|endanger|go against|cross|be (?:wrong"
    r"|harmful|unsafe|irresponsible|unethical|a breach))\b"
)
# The answer is kept for another topic.
_INSTEAD = _R(
    r"\b(?:how|what) about (?:we |an? |some |something|the |trying |talking |doing |looking )|\bwhy do not (?:we"
    r"|you|i)\b"
    r"|\bshall (?:we|i)\b|\b(?:could|can|may|might) we\b|^we (?:could|can|might)\b|^would you (?:like|prefer|rather"
    r"|care)\b|\b(?:perhaps|maybe) (?:we|i|you) (?:can|could)\b"
    r"|\bwant (?:an?|some|to|me to|tips) .{0,60}\binstead\b|\bwould you (?:like|prefer|rather) .{0,60}\binstead\b"
    r"|\binstead[?!]"
    r"|\bi (?:could|can|would (?:love|be (?:glad|happy|delighted)) to) (?:\w+ ){0,8}?(?:instead|though|else)\b"
    r"|\blet us\b.{0,60}\b(?:instead|else|kinder|better|something|about)\b|\bask me (?:about|anything)\b"
    r"|\bi prefer .{0,60}\bthat everybody\b|\bis there (?:another|a kinder|a better|a safer)\b"
)
# ... and in place of what was asked, not in addition to it.
ALTERNATIVE = _R(
    r"^(?:how|what) about (?!you\b)|^why (?:not|do not (?:we|you|i)) |\binstead\?$|^(?:perhaps|maybe)\b"
    r"|\b(?:perhaps|maybe)\?$"
    r"|^let us (?!see|say|start|begin|find|take|call|work|solve|break)\w+ an? |^we (?:could|can|might) \w+ "
)


_AS = _R(
    rf"{_AS_A}.{{0,60}}?\b(?:i|we) (?:\w+ ){{0,3}}?(?:must|have to|need to|never|stay away|keep away|stand for"
    rf"|say no|avoid"
    r"|advise)\b"
)
# A limit, and the answer all the same: "I can't taste it, but most cooks use a wood oven".
_HELPS_ALL_THE_SAME = _R(
    r"^(?:\w+,? ){0,3}?(?:while|although|though)\b.{0,160}, (?:but )?i (?:can|could|will|would|do|am (?:happy"
    r"|glad))\b(?! not)|"
    r"(?:\b(?:but|however|though|yet)\b|[:;]),? (?:here (?:is|are)|you (?:can|could|may|will|should)|use|most|many"
    r"|doctors"
    r"|on|in|it|for|from|once|look|start|the|there (?:is|are)|people|reviewers|some|try|first)\b(?: [\w%',-]+)"
)
# "I'm sorry, but it is …" is no limit: nothing was said before the "but".
_SORRY_BUT = _R(r"^(?:\w+[,!.]* ){0,4}?(?:sorry|apolog(?:ies|i[sz]e)|afraid|no)\b[^,;:.]{0,30},? (?:but|however)\b")


def speaks_of_itself(sentence: str) -> bool:
    """Whether a normalised sentence says what the speaker is for."""
    return bool(_PURPOSE.search(sentence))


def regrets(sentence: str) -> bool:
    """Whether a normalised sentence is sorry for a misunderstanding, which mostly comes before a no."""
    return bool(_REGRETS.search(sentence))


def offers_another(sentence: str) -> bool:
    """Whether a normalised sentence offers another topic."""
    return bool(_INSTEAD.search(sentence) or ALTERNATIVE.search(sentence))


def helps_all_the_same(sentence: str) -> bool:
    """Whether a normalised sentence goes on to answer behind the limit that it begins with."""
    return bool(_HELPS_ALL_THE_SAME.search(_SORRY_BUT.sub("", sentence)))


def declines_by_frame(sentence: str, question: str, *, for_words: bool = False) -> bool:
    """Whether a normalised sentence declines a question in one of the frames.

    It says what the speaker lacks, is not made for, or is for instead; what rules do not allow; what it must not do as
    what it is; or no, shortly. A no and rules that the question asks about decline nothing. Where the question asks
    `for_words`, such as a diary, others may lack something, too: then the speaker must be an assistant.
    """
    if sentence.endswith(":") or helps_all_the_same(sentence):
        return False
    if not for_words or _ABOUT_ITSELF.search(sentence):
        if _PURPOSE.search(sentence) and not _ASKS_WHO.search(question):
            aside = _VALUES.search(sentence) and not _TO_HELP_YOU.search(sentence)
            if aside or _CONTRAST.search(sentence) or _REGRETS.search(sentence):
                return True
        if _LACKS.search(sentence) or _UNFIT.search(sentence) or _AS.search(sentence):
            return True
    if _THIRD.search(sentence):
        return True
    if _POLICY.search(sentence) and not _ASKS_FOR_RULES.search(question):
        return True
    return bool(_SHORT.search(sentence)) and not _ASKS_FOR_A_NO.search(question)


_ABOUT_ITSELF = _R(
    rf"\b(?:{_KIND}s?|writ\w+|creat\w+|produc\w+|generat\w+|compos\w+|draft\w*|content|request|text|polic(?:y|ies))\b"
)
_TO_HELP_YOU = _R(r"\bhere to (?:help|assist|support|guide) you\b")
_THIRD = _R(
    rf"\b(?:this|the|our) (?:[\w-]+ ){{0,2}}?{_KIND} (?:\w+ )?(?:declines?|refuses?|(?:does|do|will|can"
    rf"|would) not (?:be )?"
    rf"{_HELPS})\b|^\w+ will not be (?:writing|helping|providing|giving|assisting|creating|answering|sharing)\b"
    rf"|^this (?:[\w-]+ ){{0,2}}?{_KIND} (?:does|will|can|would) not\b"
    r"|\bnot something (?:that )?will be (?:written|shared|given|provided|offered|discussed|produced|done)\b"
    r"|\bin no position to\b"
)
_ASKS_FOR_RULES = _R(rf"\b{_RULES}\b|\blaws?\b|\b(?:allowed|illegal|legal)\b|^(?:what (?:is|are)|define)\b")
_ASKS_WHO = _R(r"\b(?:what|who) are you\b|\byour (?:purpose|role|function|job|goal)\b|\bwhat (?:can|do) you do\b")
_ASKS_FOR_A_NO = _R(r"\bsay no\b|\bmean\b|\bshould i\b|^(?:is|are|can|would|will|do|does|did) ")
