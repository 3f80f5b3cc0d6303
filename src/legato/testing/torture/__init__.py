"""A server tortured from outside, and what it promised checked there: `legato torture`.

``plan``     what is done, all of it chosen by a seed
``tools``    the tools that the server is given; their effects are counted in a file that outlives it
``child``    `legato serve` as a process: started, killed, stopped, its disk slow or full
``readers``  who follow a turn, are cut off anywhere, and come back with their cursor
``drive``    does what the plan says
``checks``   what was promised, each with what was found against it
``report``   what is said of it all
"""
