"""Part 3: a recurrent network that remembers the first digit of a palindrome."""
