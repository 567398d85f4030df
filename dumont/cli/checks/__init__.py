"""What `dumont doctor` looks at. Every check costs nothing and changes nothing.

finding   what a check says, and how an error becomes that
local     this computer
server    the API this command line talks to
parts     what the server stands on, where its configuration is at hand
"""
