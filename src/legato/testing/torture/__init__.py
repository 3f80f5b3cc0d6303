"""A server tortured from outside, and what it promised checked there: `legato torture`.

``plan``, ``planning``   what is done, all of it chosen by a seed
``tools``                the tools that the server is given; their effects are counted in a file that outlives it
``vendor``               what the model says, and where its response breaks
``servers``, ``harm``    servers as processes: started, killed, stopped; their disk slow, locked or full
``users``, ``readers``   who posts, answers, cancels; and who follows a turn, is cut off anywhere, and comes back
``drive``                does what the plan says
``told``, ``seen``       what was seen of a turn; ``likeness`` holds a reader's fold against what GET gives
``checks``               what was promised, each a function: ``check_readers``, ``check_calls``, ``check_people``
``report``               what is said of it all
"""
